//! Container images, built without a Docker daemon from the distribution's packages and files of this repository.
//!
//! | module | what |
//! | --- | --- |
//! | `recipes` | what is in each image, layer by layer |
//! | `layers` | building a layer, once for each content |
//! | `archive` | an image as tools exchange it: an OCI layout in a tar file |
//! | `operator` | the operator's own image: its binary and nothing else |
//! | `store` | images as containerd has them unpacked, kept from one cluster to the next |

mod archive;
#[cfg(test)]
mod dockerfile;
mod layers;
mod operator;
mod recipes;
mod store;

pub use archive::Archive;
pub(crate) use operator::operator_in;
pub use operator::{DEFAULT_REFERENCE, operator, operator_of};
pub use recipes::Image;
pub(crate) use store::Store;

use crate::cache::Cache;
use crate::error::Error;
use crate::lock::{self, Lock};

/// Builds what is missing of the images, with progress on standard error, one build at a time.
///
/// The base is always among them, since every pod's sandbox is made of it.
pub async fn ensure(images: &[Image]) -> Result<Vec<Archive>, Error> {
    let cache = Cache::locate()?;
    let _lock = Lock::acquire(&cache.layers_lock(), lock::PATIENCE).await?;
    let mut archives = Vec::new();
    for image in [Image::Base].iter().chain(images.iter().filter(|image| **image != Image::Base)) {
        archives.push(Archive::new(image.description(), layers::ensure(image.layers(), &cache).await?));
    }
    Ok(archives)
}

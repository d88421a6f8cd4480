//! An image in the form that tools exchange: an OCI image layout, in a tar file.

use std::fs::File;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layers::Built;
use super::recipes::Image;
use crate::error::{Error, IoContext};

/// An image whose layers are built.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The reference under which it is imported.
    pub reference: String,
    image: Image,
    layers: Vec<Built>,
    configuration: Vec<u8>,
    manifest: Vec<u8>,
}

impl Archive {
    pub(super) fn new(image: Image, layers: Vec<Built>) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let digests: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.digest)).collect();
        let configuration = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": image.environment(), "Cmd": image.command()},
            "rootfs": {"type": "layers", "diff_ids": digests},
        });
        let configuration = configuration.to_string().into_bytes();
        let layer = |layer: &Built| descriptor("layer.v1.tar", &layer.digest, layer.size);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type("manifest.v1+json"),
            "config": descriptor("config.v1+json", &sha256(&configuration), configuration.len() as u64),
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string().into_bytes();
        Self { reference: image.reference(), image, layers, configuration, manifest }
    }

    /// The image's name without registry and tag.
    pub fn name(&self) -> &'static str {
        self.image.name()
    }

    /// The digest by which the image is known.
    pub(crate) fn digest(&self) -> String {
        sha256(&self.manifest)
    }

    /// Digest and file of each layer.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.layers.iter().map(|layer| (layer.digest.as_str(), layer.path.as_path()))
    }

    /// Writes it to a file that `ctr images import`, `skopeo copy oci-archive:...` or `kind load image-archive` reads.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        self.try_write(path).context("writing", path)
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        let mut tar = tar::Builder::new(File::create(path)?);
        let manifest = json!({
            "mediaType": media_type("manifest.v1+json"),
            "digest": format!("sha256:{}", self.digest()),
            "size": self.manifest.len(),
            // The first is what containerd reads, the second what everybody else does.
            "annotations": {
                "io.containerd.image.name": self.reference,
                "org.opencontainers.image.ref.name": self.reference,
            },
        });
        let index =
            json!({"schemaVersion": 2, "mediaType": media_type("index.v1+json"), "manifests": [manifest]}).to_string();
        append(&mut tar, "oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
        append(&mut tar, "index.json", index.as_bytes())?;
        for document in [&self.manifest, &self.configuration] {
            append(&mut tar, &blob(&sha256(document)), document)?;
        }
        for layer in &self.layers {
            tar.append_file(blob(&layer.digest), &mut File::open(&layer.path)?)?;
        }
        tar.into_inner()?.sync_data()
    }
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn append(tar: &mut tar::Builder<File>, name: &str, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content)
}

fn descriptor(kind: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": media_type(kind), "digest": format!("sha256:{digest}"), "size": size})
}

/// As the OCI image specification names them.
fn media_type(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    #[test]
    fn every_digest_leads_to_its_blob() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer.tar");
        std::fs::write(&path, "layer").unwrap();
        let layer = Built { path, digest: sha256(b"layer"), size: 5 };
        let archive = Archive::new(Image::Base, vec![layer]);
        let file = folder.path().join("image.tar");
        archive.write(&file).unwrap();

        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(File::open(&file).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(name, content);
        }
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let follow = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:");
            let content = &files[&blob(digest)];
            assert_eq!(descriptor["size"], content.len());
            assert_eq!(sha256(content), digest);
            content.clone()
        };
        let manifest = json(&follow(&json(&files["index.json"])["manifests"][0]));
        let configuration = json(&follow(&manifest["config"]));
        assert_eq!(follow(&manifest["layers"][0]), b"layer");
        assert_eq!(configuration["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    }
}

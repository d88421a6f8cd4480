//! An image in the form that tools exchange: an OCI image layout, in a tar file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, IoContext};

/// Where a layer's bytes are.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// In a file of the cache.
    File(PathBuf),
    /// In memory, if they are few.
    Bytes(Arc<[u8]>),
}

/// A layer that is there: a tar file, which may be compressed with gzip.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub(super) content: Content,
    /// Its SHA-256, in hexadecimal.
    pub(super) digest: String,
    /// The SHA-256 of what is in it when it is compressed, else the same once more.
    pub(super) uncompressed: String,
    /// Its size in bytes, as it is.
    pub(super) size: u64,
}

/// What an image says of itself, beside its layers.
#[derive(Clone, Debug, Default)]
pub(super) struct Description {
    /// The reference under which it is imported.
    pub(super) reference: String,
    /// How its containers run: the `config` of an OCI image configuration.
    pub(super) config: Map<String, Value>,
    /// What is known of it, by the names of the OCI specification: labels of the configuration, and annotations of the
    /// manifest.
    pub(super) labels: BTreeMap<&'static str, String>,
    /// When it was made, as RFC 3339 has it.
    pub(super) created: Option<String>,
}

/// An image whose layers are built.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The reference under which it is imported.
    pub reference: String,
    layers: Vec<Packed>,
    configuration: Vec<u8>,
    manifest: Vec<u8>,
}

impl Archive {
    pub(super) fn new(description: Description, layers: Vec<Packed>) -> Self {
        let Description { reference, mut config, labels, created } = description;
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        if !labels.is_empty() {
            config.insert("Labels".to_owned(), json!(labels));
        }
        let uncompressed: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.uncompressed)).collect();
        let mut configuration = json!({
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": uncompressed},
        });
        if let Some(created) = created {
            configuration["created"] = created.into();
        }
        let configuration = configuration.to_string().into_bytes();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type("manifest.v1+json"),
            "config": descriptor("config.v1+json", &sha256(&configuration), configuration.len() as u64),
            "layers": layers.iter().map(Packed::descriptor).collect::<Vec<_>>(),
        });
        if !labels.is_empty() {
            manifest["annotations"] = json!(labels);
        }
        let manifest = manifest.to_string().into_bytes();
        Self { reference, layers, configuration, manifest }
    }

    /// The image's name without registry and tag.
    pub fn name(&self) -> &str {
        let name = self.reference.rsplit('/').next().unwrap_or_default();
        name.split([':', '@']).next().unwrap_or_default()
    }

    /// The SHA-256 by which the image is known, in hexadecimal: what follows `@sha256:`. The reference is no part of it.
    pub fn digest(&self) -> String {
        sha256(&self.manifest)
    }

    /// What a registry keeps of it, in bytes.
    pub fn size(&self) -> u64 {
        let layers: u64 = self.layers.iter().map(|layer| layer.size).sum();
        layers + (self.configuration.len() + self.manifest.len()) as u64
    }

    /// Digest and file of each layer that is kept in one.
    pub(crate) fn layer_files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.layers.iter().filter_map(|layer| Some((layer.digest.as_str(), layer.file()?)))
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
            let name = blob(&layer.digest);
            match &layer.content {
                // Of its times and its owner, only what everybody's would have.
                Content::File(path) => append_from(&mut tar, &name, layer.size, File::open(path)?)?,
                Content::Bytes(bytes) => append(&mut tar, &name, bytes)?,
            }
        }
        tar.into_inner()?.sync_data()
    }
}

impl Packed {
    /// The file that it is kept in, if it is.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.content {
            Content::File(path) => Some(path),
            Content::Bytes(_) => None,
        }
    }

    fn descriptor(&self) -> Value {
        let kind = if self.digest == self.uncompressed { "layer.v1.tar" } else { "layer.v1.tar+gzip" };
        descriptor(kind, &self.digest, self.size)
    }
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn append(tar: &mut tar::Builder<File>, name: &str, content: &[u8]) -> io::Result<()> {
    append_from(tar, name, content.len() as u64, content)
}

fn append_from(tar: &mut tar::Builder<File>, name: &str, size: u64, content: impl io::Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, name, content)
}

fn descriptor(kind: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": media_type(kind), "digest": format!("sha256:{digest}"), "size": size})
}

/// As the OCI image specification names them.
fn media_type(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

/// In hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read;

    use super::*;

    /// An archive, read as a tool would: from the index by digests to everything else, each of which is checked.
    pub(in crate::images) struct Opened {
        pub(in crate::images) index: Value,
        pub(in crate::images) manifest: Value,
        pub(in crate::images) configuration: Value,
        pub(in crate::images) layers: Vec<Vec<u8>>,
    }

    impl Opened {
        pub(in crate::images) fn open(file: &Path) -> Self {
            let mut files = BTreeMap::new();
            for entry in tar::Archive::new(File::open(file).unwrap()).entries().unwrap() {
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
            let index = json(&files["index.json"]);
            let manifest = json(&follow(&index["manifests"][0]));
            let configuration = json(&follow(&manifest["config"]));
            let layers = manifest["layers"].as_array().unwrap().iter().map(follow).collect();
            Self { index, manifest, configuration, layers }
        }
    }

    #[test]
    fn every_digest_leads_to_its_blob() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer.tar");
        std::fs::write(&path, "layer").unwrap();
        let layer = |content, uncompressed: &str| Packed {
            content,
            digest: sha256(b"layer"),
            uncompressed: uncompressed.to_owned(),
            size: 5,
        };
        let layers = vec![
            layer(Content::File(path), &sha256(b"layer")),
            layer(Content::Bytes(b"layer".as_slice().into()), "another"),
        ];
        let description = Description { reference: "localhost/a:1".to_owned(), ..Description::default() };
        let archive = Archive::new(description, layers);
        let file = folder.path().join("image.tar");
        archive.write(&file).unwrap();

        let opened = Opened::open(&file);
        assert_eq!(opened.index["manifests"][0]["digest"], format!("sha256:{}", archive.digest()));
        assert_eq!(opened.index["manifests"][0]["annotations"]["io.containerd.image.name"], "localhost/a:1");
        assert_eq!(opened.layers, [b"layer", b"layer"]);
        assert_eq!(opened.configuration["rootfs"]["diff_ids"][0], opened.manifest["layers"][0]["digest"]);
        assert_eq!(opened.configuration["rootfs"]["diff_ids"][1], "sha256:another");
        let kind = |index: usize| opened.manifest["layers"][index]["mediaType"].as_str().unwrap().to_owned();
        assert_eq!([kind(0), kind(1)], [media_type("layer.v1.tar"), media_type("layer.v1.tar+gzip")]);
        assert_eq!(archive.layer_files().count(), 1);
        assert_eq!(archive.name(), "a");
    }
}

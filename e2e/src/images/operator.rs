//! The operator's own image: one static binary, and what a container runtime needs to know to run it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::{Compression, GzBuilder};
use jiff::Timestamp;
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};
use serde_json::{Map, Value, json};

use super::archive::{Archive, Content, Description, Packed, sha256};
use crate::error::Error;
use crate::operator_binary::{Build, Folders, build_in};
use crate::revision::{Revision, check_out};

/// What the archive carries when nobody says another reference: `kind load image-archive` and `ctr images import` make
/// of it an image that the chart's defaults find.
pub const DEFAULT_REFERENCE: &str = concat!("localhost/trainyard/trainyard:", env!("CARGO_PKG_VERSION"));
/// The number that distroless images, and others after them, have made usual for somebody who is not root. As a number,
/// so that the kubelet can check `runAsNonRoot` and the image needs no `/etc/passwd`.
const USER: &str = "65532:65532";
const ENTRYPOINT: &str = "/trainyard";
const COMMAND: &str = "run";
const TITLE: &str = "trainyard";
const DESCRIPTION: &str = "A Kubernetes operator for machine-learning workloads";

/// Builds the operator and packs it, with progress on standard error.
pub async fn operator(build: Build, reference: &str) -> Result<Archive> {
    operator_in(&Folders::own()?, build, reference).await
}

/// Packs the operator of another commit of this source tree, built for tests in a folder of its own.
pub async fn operator_of(commit: &str, folder: &Path, reference: &str) -> Result<Archive> {
    let source = folder.join("source");
    check_out(commit, &source).await?;
    let folders = Folders { source, target: folder.join("target"), ..Folders::own()? };
    operator_in(&folders, Build::Debug, reference).await
}

/// Likewise, in other folders.
pub(crate) async fn operator_in(folders: &Folders, build: Build, reference: &str) -> Result<Archive> {
    // Before a build of minutes.
    check_reference(reference)?;
    let revision = build.revision(&folders.source);
    let binary = build_in(folders, build, &revision).await?;
    let compression = match build {
        // It is packed at every run of the tests, and unpacked on the same machine.
        Build::Debug => Compression::fast(),
        Build::Release => Compression::best(),
    };
    pack(&binary, &revision, reference, compression)
}

/// The image of a binary that is there.
fn pack(binary: &Path, revision: &Revision, reference: &str, compression: Compression) -> Result<Archive> {
    let program = fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    check_static(binary, &program)?;
    let created = revision.time.map(Timestamp::from_second).transpose().context("the time of the commit")?;
    let created = created.map(|time| time.to_string());
    let description = Description {
        reference: reference.to_owned(),
        config: config(),
        labels: labels(revision, created.clone()),
        created,
    };
    let layer = layer(&program, compression).with_context(|| format!("packing {}", binary.display()))?;
    Ok(Archive::new(description, vec![layer]))
}

/// Importers take less than registries and the kubelet do: a reference without a tag would become another one there.
fn check_reference(reference: &str) -> Result<()> {
    let is_word = |word: &str, more: &[char]| {
        let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || more.contains(&letter);
        !word.is_empty() && word.chars().all(fits)
    };
    let (registry, rest) = reference.split_once('/').unwrap_or_default();
    let (path, tag) = rest.rsplit_once(':').unwrap_or_default();
    let is_good = is_word(registry, &['.', '-', ':'])
        && path.split('/').all(|word| is_word(word, &['.', '-', '_']))
        && is_word(&tag.to_ascii_lowercase(), &['.', '-', '_']);
    ensure!(
        is_good,
        "--reference {reference:?} is not a registry, a path in lower case and a tag: write it like {DEFAULT_REFERENCE}"
    );
    Ok(())
}

pub(super) fn config() -> Map<String, Value> {
    let fields = [
        ("User", json!(USER)),
        ("Entrypoint", json!([ENTRYPOINT])),
        ("Cmd", json!([COMMAND])),
        ("WorkingDir", json!("/")),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// As `org.opencontainers.image.*` is defined; what is not known is left out.
pub(super) fn labels(revision: &Revision, created: Option<String>) -> BTreeMap<&'static str, String> {
    let known = [
        ("org.opencontainers.image.title", Some(TITLE.to_owned())),
        ("org.opencontainers.image.description", Some(DESCRIPTION.to_owned())),
        ("org.opencontainers.image.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("org.opencontainers.image.licenses", Some(env!("CARGO_PKG_LICENSE").to_owned())),
        ("org.opencontainers.image.revision", revision.commit.clone()),
        ("org.opencontainers.image.created", created),
    ];
    known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The binary alone. It writes no file, names resolve without `/etc/nsswitch.conf`, and the cluster's certificate
/// authority comes with the ServiceAccount.
fn layer(program: &[u8], compression: Compression) -> io::Result<Packed> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o555);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, ENTRYPOINT.trim_start_matches('/'), program)?;
    let tar = tar.into_inner()?;
    // Without a time and a file name, and by a compressor that goes by no property of the machine, so that everybody
    // gets the same bytes.
    let mut compressed = GzBuilder::new().mtime(0).write(Vec::new(), compression);
    compressed.write_all(&tar)?;
    let compressed = compressed.finish()?;
    Ok(Packed {
        digest: sha256(&compressed),
        uncompressed: sha256(&tar),
        size: compressed.len() as u64,
        content: Content::Bytes(compressed.into()),
    })
}

/// Refuses a program that the image could not run: its loader and its libraries would be missing.
fn check_static(path: &Path, program: &[u8]) -> Result<(), Error> {
    match loader(program) {
        Ok(None) => Ok(()),
        Ok(Some(loader)) => Err(Error::NotStatic { path: path.to_owned(), loader }),
        Err(source) => Err(Error::NotAProgram { path: path.to_owned(), source }),
    }
}

/// The dynamic loader that a program names, if it does.
fn loader(program: &[u8]) -> object::read::Result<Option<String>> {
    let header = FileHeader64::<Endianness>::parse(program)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, program)? {
        if let Some(name) = segment.interpreter(endian, program)? {
            return Ok(Some(String::from_utf8_lossy(name).into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::archive::tests::Opened;
    use super::*;

    /// The smallest ELF file that says nothing of a loader.
    const STATIC: [u8; 64] = {
        let mut header = [0; 64];
        let begin = [0x7f, b'E', b'L', b'F', 2, 1, 1];
        let mut index = 0;
        while index < begin.len() {
            header[index] = begin[index];
            index += 1;
        }
        header
    };

    fn revision() -> Revision {
        Revision { commit: Some("5d55513-dirty".to_owned()), time: Some(1_795_822_232) }
    }

    fn packed(revision: &Revision) -> Archive {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("trainyard");
        fs::write(&binary, STATIC).unwrap();
        pack(&binary, revision, DEFAULT_REFERENCE, Compression::fast()).unwrap()
    }

    fn opened(archive: &Archive) -> Opened {
        let file = tempfile::NamedTempFile::new().unwrap();
        archive.write(file.path()).unwrap();
        Opened::open(file.path())
    }

    #[test]
    fn the_layer_is_the_binary_and_nothing_else() {
        let opened = opened(&packed(&revision()));
        let [layer] = opened.layers.as_slice() else { panic!("{} layers", opened.layers.len()) };
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(layer.as_slice()).read_to_end(&mut tar).unwrap();
        assert_eq!(opened.configuration["rootfs"]["diff_ids"], json!([format!("sha256:{}", sha256(&tar))]));
        let mut names = Vec::new();
        for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            assert_eq!(content, STATIC);
            let header = entry.header();
            assert_eq!(header.mode().unwrap(), 0o555);
            assert_eq!([header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()], [0; 3]);
            names.push(header.path().unwrap().into_owned());
        }
        assert_eq!(names, [Path::new("trainyard")]);
    }

    #[test]
    fn it_says_what_it_is_and_runs_as_nobody_in_particular() {
        let opened = opened(&packed(&revision()));
        let labels = json!({
            "org.opencontainers.image.title": TITLE,
            "org.opencontainers.image.description": DESCRIPTION,
            "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.revision": "5d55513-dirty",
            "org.opencontainers.image.created": "2026-11-27T23:30:32Z",
        });
        let config = json!({
            "User": "65532:65532", "Entrypoint": ["/trainyard"], "Cmd": ["run"], "WorkingDir": "/", "Labels": labels,
        });
        assert_eq!(opened.configuration["config"], config);
        assert_eq!(opened.configuration["created"], labels["org.opencontainers.image.created"]);
        assert_eq!(opened.manifest["annotations"], labels);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let opened = opened(&packed(&Revision::default()));
        assert!(opened.configuration.get("created").is_none());
        assert_eq!(opened.manifest["annotations"].as_object().unwrap().len(), 4);
    }

    #[test]
    fn the_same_binary_makes_the_same_image() {
        assert_eq!(packed(&revision()).digest(), packed(&revision()).digest());
        assert_ne!(packed(&revision()).digest(), packed(&Revision::default()).digest());
        let [one, two] = [opened(&packed(&revision())), opened(&packed(&revision()))];
        assert_eq!(one.index, two.index);
    }

    #[test]
    fn a_reference_is_whole() {
        for good in [DEFAULT_REFERENCE, "registry.example.com:5000/team/trainyard:v1.2", "a/b:Latest_1"] {
            check_reference(good).unwrap();
        }
        for bad in ["", "trainyard", "trainyard:1", "a/b", "a/b:", "a/B:1", "a//b:1", "a/b:1@sha256:00", "a/b c:1"] {
            let refused = check_reference(bad).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("--reference {bad:?}")), "{refused}");
        }
    }

    #[test]
    fn only_static_programs_are_packed() {
        check_static(Path::new("x"), &STATIC).unwrap();
        // This very test is linked as programs of the system are.
        let own = std::env::current_exe().unwrap();
        let refused = check_static(&own, &fs::read(&own).unwrap()).unwrap_err();
        assert!(refused.to_string().contains("dynamic loader"), "{refused}");
        let refused = check_static(Path::new("x"), b"#!/bin/sh").unwrap_err();
        assert!(refused.to_string().starts_with("x is no program"), "{refused}");
    }
}

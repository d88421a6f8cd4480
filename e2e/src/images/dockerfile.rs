//! The Dockerfile, which no test here can run, says the same as the archive.

use serde_json::{Value, json};

use super::operator::{config, labels};
use crate::revision::Revision;

const DOCKERFILE: &str = include_str!("../../../Dockerfile");
const PACKAGE: &str = include_str!("../../../Cargo.toml");

/// What follows an instruction of the last stage, whose lines may be continued.
fn instruction(name: &str) -> String {
    let whole = DOCKERFILE.replace("\\\n", " ");
    let (_, last) = whole.rsplit_once("FROM scratch").expect("the last stage begins with nothing");
    let line = last.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
}

/// The value of a `name = "..."` of Cargo.toml.
fn field(name: &str) -> &'static str {
    let line = PACKAGE.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
    line.unwrap_or_else(|| panic!("no {name}")).trim_matches('"')
}

#[test]
fn it_runs_what_the_archive_runs() {
    let list = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let said = json!({
        "User": instruction("USER"),
        "Entrypoint": list(instruction("ENTRYPOINT")),
        "Cmd": list(instruction("CMD")),
        "WorkingDir": instruction("WORKDIR"),
    });
    assert_eq!(said, Value::Object(config()));
    assert!(instruction("COPY").ends_with(config()["Entrypoint"][0].as_str().unwrap()));
}

#[test]
fn its_labels_are_those_of_the_archive() {
    let version = format!("VERSION={:?}", env!("CARGO_PKG_VERSION"));
    assert_eq!(instruction("ARG"), version, "the first argument of the last stage");
    let said = instruction("LABEL").replace("$VERSION", env!("CARGO_PKG_VERSION"));
    let revision = Revision { commit: Some("$COMMIT".to_owned()), time: None };
    let labels = labels(&revision, None);
    for (name, value) in &labels {
        assert!(said.contains(&format!("{name}={value:?}")), "no {name} {value} in {said}");
    }
    assert_eq!(said.matches("org.opencontainers.image.").count(), labels.len());
}

#[test]
fn it_builds_what_the_package_is_with_the_oldest_rust_that_can() {
    let base = DOCKERFILE.lines().find_map(|line| line.strip_prefix("FROM rust:")).unwrap();
    assert!(base.starts_with(&format!("{}-", field("rust-version"))), "{base}");
    assert!(
        base.contains("@${RUST_DIGEST} ") && DOCKERFILE.contains("\nARG RUST_DIGEST\n"),
        "pinned, without a default"
    );
    assert_eq!(labels(&Revision::default(), None)["org.opencontainers.image.description"], field("description"));
    assert_eq!(env!("CARGO_PKG_VERSION"), field("version"), "the operator's version is that of this package");
}

//! Kubeconfig files, which point at the certificates beside them.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::certs::{Identity, Pki};
use crate::error::{Error, IoContext};

/// Writes the kubeconfig of one user. JSON is YAML too, and needs no care about quoting paths.
pub(crate) fn write(path: &Path, server: &str, pki: &Pki, identity: Identity) -> Result<(), Error> {
    let user = identity.file;
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "trainyard-e2e",
            "cluster": { "server": server, "certificate-authority": pki.authority() },
        }],
        "users": [{
            "name": user,
            "user": { "client-certificate": pki.certificate(user), "client-key": pki.key(user) },
        }],
        "contexts": [{
            "name": "trainyard-e2e",
            "context": { "cluster": "trainyard-e2e", "user": user },
        }],
        "current-context": "trainyard-e2e",
    });
    fs::write(path, format!("{kubeconfig:#}\n")).context("writing", path)
}

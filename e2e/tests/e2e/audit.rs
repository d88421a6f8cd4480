//! The apiserver's audit log: what the operator asked for, whatever it says itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use e2e::operator::{OPERATOR_NAMESPACE, OPERATOR_USER, SERVICE_ACCOUNT};
use serde_json::Value;

use crate::objects::text;

/// How the resources end that give rights.
const BINDINGS: &str = "rolebindings";

/// The log file.
pub(crate) struct AuditLog(PathBuf);

/// One answered request of the operator.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) verb: String,
    pub(crate) group: String,
    /// With its subresource, as RBAC names it.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) path: String,
    /// What the authorizer said.
    pub(crate) allowed: bool,
    /// Whether Helm had taken the operator's rights away when it asked: an operator ends after them.
    pub(crate) uninstalled: bool,
    /// Whether it made an object.
    pub(crate) created: bool,
}

impl Entry {
    /// The rights that it needed: an apply that makes its object needs to be allowed to create it too.
    pub(crate) fn rights(&self) -> impl Iterator<Item = String> {
        let Entry { verb, group, resource, .. } = self;
        let creates = (verb == "patch" && self.created).then_some("create");
        [verb.as_str()].into_iter().chain(creates).map(move |verb| format!("{verb} {group}/{resource}"))
    }

    /// Whether it changes anything but the lease, which is renewed all the time.
    pub(crate) fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch") && self.resource != "leases"
    }
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        AuditLog(path)
    }

    /// Every request of the operator so far. Watches are in it once they have ended.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        let log = fs::read_to_string(&self.0).context("reading the audit log")?;
        let whole_lines = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let (mut entries, mut taken) = (Vec::new(), BTreeSet::new());
        for line in whole_lines.lines().filter(|line| line.contains(OPERATOR_USER) || line.contains(BINDINGS)) {
            let event: Value = serde_json::from_str(line).context("reading the audit log")?;
            if text(&event, "/user/username") == OPERATOR_USER {
                entries.push(entry(&event, !taken.is_empty()));
            } else if event["responseStatus"]["status"] != "Failure"
                && let Some(binding) = operators_binding(&event)
            {
                match text(&event, "/verb") {
                    "delete" => taken.insert(binding),
                    _ => taken.remove(&binding),
                };
            }
        }
        Ok(entries)
    }

    /// How often the operator wrote, by verb and resource.
    pub(crate) fn writes(&self) -> Result<BTreeMap<String, usize>> {
        let mut writes = BTreeMap::new();
        for entry in self.entries()?.iter().filter(|entry| entry.is_write()) {
            *writes.entry(format!("{} {} in {}", entry.verb, entry.resource, entry.namespace)).or_default() += 1;
        }
        Ok(writes)
    }
}

/// The binding of the operator's rights that is changed, if one is.
fn operators_binding(event: &Value) -> Option<String> {
    let reference = event.get("objectRef")?;
    let (resource, namespace) = (text(reference, "/resource"), text(reference, "/namespace"));
    let is_ours = resource.ends_with(BINDINGS) && text(reference, "/name").starts_with(SERVICE_ACCOUNT);
    (is_ours && ["", OPERATOR_NAMESPACE].contains(&namespace))
        .then(|| format!("{resource}/{}", text(reference, "/name")))
}

fn entry(event: &Value, uninstalled: bool) -> Entry {
    let reference = &event["objectRef"];
    let subresource = text(reference, "/subresource");
    let slash = if subresource.is_empty() { "" } else { "/" };
    Entry {
        verb: text(event, "/verb").to_owned(),
        group: text(reference, "/apiGroup").to_owned(),
        resource: format!("{}{slash}{subresource}", text(reference, "/resource")),
        namespace: text(reference, "/namespace").to_owned(),
        path: text(event, "/requestURI").to_owned(),
        created: event["responseStatus"]["code"] == 201,
        uninstalled,
        allowed: event["annotations"]["authorization.k8s.io/decision"] == "allow",
    }
}

//! What one term of leadership covers: the whole cluster, or one namespace.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Resource};

use crate::names;

/// Longest name of a namespace (RFC 1123 label), in bytes.
const LONGEST_LABEL: usize = 63;

/// The objects that one lease is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every namespace, those made later included.
    Cluster,
    /// One namespace.
    Namespace(String),
}

impl Scope {
    /// Value of the label [`names::LABEL_SCOPE`] on the Lease.
    pub fn kind(&self) -> &'static str {
        match self {
            Scope::Cluster => "cluster",
            Scope::Namespace(_) => names::SCOPE_NAMESPACE,
        }
    }

    /// Whether it is one namespace.
    pub fn is_namespace(&self) -> bool {
        matches!(self, Scope::Namespace(_))
    }

    /// The namespace, or `cluster`: as logs, probes and metrics have it. One process serves either the cluster or
    /// namespaces, so a namespace of that name is not mistaken for it.
    pub fn name(&self) -> &str {
        match self {
            Scope::Cluster => self.kind(),
            Scope::Namespace(namespace) => namespace,
        }
    }

    /// The objects of a kind that belong to it.
    pub fn api<K>(&self, client: &kube::Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Scope::Cluster => Api::all(client.clone()),
            Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The namespaces that an operator is to serve; none named: the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(Vec<String>);

impl Namespaces {
    /// One scope for each term of leadership that the operator runs for.
    pub fn scopes(&self) -> Vec<Scope> {
        match self.0.as_slice() {
            [] => vec![Scope::Cluster],
            named => named.iter().cloned().map(Scope::Namespace).collect(),
        }
    }
}

/// What is wrong with a list of namespaces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNamespaces {
    /// Two commas in a row, or one at an end.
    #[error(
        "name {0} of the list is empty; separate names by one comma, and leave the list empty for the whole cluster"
    )]
    Empty(usize),
    /// No namespace can have that name.
    #[error(
        "{0:?} is no name of a namespace: at most 63 lower-case letters, digits and hyphens, neither first nor last a hyphen"
    )]
    NoLabel(String),
    /// Named more than once.
    #[error("{0:?} is in the list twice; name it once")]
    Twice(String),
}

impl FromStr for Namespaces {
    type Err = BadNamespaces;

    fn from_str(list: &str) -> Result<Self, BadNamespaces> {
        let mut names: Vec<String> = Vec::new();
        if list.is_empty() {
            return Ok(Namespaces(names));
        }
        for (at, name) in list.split(',').enumerate() {
            if name.is_empty() {
                return Err(BadNamespaces::Empty(at + 1));
            }
            if !is_label(name) {
                return Err(BadNamespaces::NoLabel(name.to_owned()));
            }
            if names.iter().any(|known| known == name) {
                return Err(BadNamespaces::Twice(name.to_owned()));
            }
            names.push(name.to_owned());
        }
        Ok(Namespaces(names))
    }
}

/// Whether the apiserver takes it for a namespace's name: an RFC 1123 label.
fn is_label(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= LONGEST_LABEL && name.bytes().all(allowed) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_each_namespace_once() {
        let longest = "n".repeat(63);
        for (list, expected) in [
            ("", Ok(vec!["cluster"])),
            ("a", Ok(vec!["a"])),
            ("team-b,team-a", Ok(vec!["team-b", "team-a"])),
            (longest.as_str(), Ok(vec![longest.as_str()])),
            (",", Err(BadNamespaces::Empty(1))),
            ("a,", Err(BadNamespaces::Empty(2))),
            ("a,,b", Err(BadNamespaces::Empty(2))),
            ("a, b", Err(BadNamespaces::NoLabel(" b".to_owned()))),
            ("Team", Err(BadNamespaces::NoLabel("Team".to_owned()))),
            ("-a", Err(BadNamespaces::NoLabel("-a".to_owned()))),
            ("a.b", Err(BadNamespaces::NoLabel("a.b".to_owned()))),
            ("a,b,a", Err(BadNamespaces::Twice("a".to_owned()))),
        ] {
            let named = list.parse::<Namespaces>().map(|list| list.scopes());
            let names = named.as_ref().map(|scopes| scopes.iter().map(Scope::name).collect::<Vec<_>>());
            assert_eq!(names, expected.as_ref().cloned(), "{list:?}");
        }
        assert!(format!("{longest}n").parse::<Namespaces>().is_err());
    }
}

//! What is built, from which module, at which version.

use std::path::{Path, PathBuf};

use crate::cache::Cache;

/// The Kubernetes of the cluster. Its go.mod must say the same, and names the staging modules one by one.
pub const KUBERNETES_VERSION: &str = "v1.37.2";
/// The etcd below it.
pub const ETCD_VERSION: &str = "v3.6.6";
/// The kwok that plays the fake nodes.
pub const KWOK_VERSION: &str = "v0.8.0";
/// The DNS server of the pods.
pub(super) const COREDNS_VERSION: &str = "v1.15.0";
/// The runtime of the real node.
pub(super) const CONTAINERD_VERSION: &str = "v2.4.2";
/// The plugins that connect its pods.
pub(super) const CNI_VERSION: &str = "v1.9.0";
/// The Helm that installs the chart.
pub const HELM_VERSION: &str = "v4.3.1";

/// One program to build.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) project: Project,
    /// The program's package within the project's module; empty for the module's root.
    folder: &'static str,
    /// Seconds that a first build took on two cores, to tell whoever waits.
    pub(super) usual_seconds: u64,
}

/// Where programs come from. Each has a Go module of ours that pins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Project {
    Etcd,
    Kubernetes,
    Kwok,
    CoreDns,
    Containerd,
    Cni,
    Helm,
}

const fn recipe(project: Project, folder: &'static str, name: &'static str, usual_seconds: u64) -> Recipe {
    Recipe { name, project, folder, usual_seconds }
}

/// What people, and tests without a cluster, ask for alone.
pub(super) const KUBECTL: Recipe = recipe(Project::Kubernetes, "/cmd/kubectl", "kubectl", 30);

/// The control plane, kubectl, and kwok.
pub(super) const CONTROL_PLANE: [Recipe; 6] = [
    recipe(Project::Etcd, "", "etcd", 80),
    recipe(Project::Kubernetes, "/cmd/kube-apiserver", "kube-apiserver", 325),
    recipe(Project::Kubernetes, "/cmd/kube-controller-manager", "kube-controller-manager", 90),
    recipe(Project::Kubernetes, "/cmd/kube-scheduler", "kube-scheduler", 15),
    KUBECTL,
    recipe(Project::Kwok, "/cmd/kwok", "kwok", 120),
];

/// A real node.
pub(super) const NODE: [Recipe; 9] = [
    recipe(Project::Kubernetes, "/cmd/kubelet", "kubelet", 30),
    recipe(Project::Kubernetes, "/cmd/kube-proxy", "kube-proxy", 15),
    recipe(Project::CoreDns, "", "coredns", 220),
    recipe(Project::Containerd, "/cmd/containerd", "containerd", 50),
    recipe(Project::Containerd, "/cmd/containerd-shim-runc-v2", "containerd-shim-runc-v2", 10),
    recipe(Project::Containerd, "/cmd/ctr", "ctr", 10),
    recipe(Project::Cni, "/plugins/main/ptp", "ptp", 10),
    recipe(Project::Cni, "/plugins/ipam/host-local", "host-local", 5),
    recipe(Project::Cni, "/plugins/main/loopback", "loopback", 5),
];

/// What installs the chart.
pub(super) const HELM: Recipe = recipe(Project::Helm, "/cmd/helm", "helm", 160);

impl Project {
    /// The folder under `e2e/binaries`, and the stem of the folder in the cache.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Kubernetes => "kubernetes",
            Self::Kwok => "kwok",
            Self::CoreDns => "coredns",
            Self::Containerd => "containerd",
            Self::Cni => "cni",
            Self::Helm => "helm",
        }
    }

    pub(super) fn version(self) -> &'static str {
        match self {
            Self::Etcd => ETCD_VERSION,
            Self::Kubernetes => KUBERNETES_VERSION,
            Self::Kwok => KWOK_VERSION,
            Self::CoreDns => COREDNS_VERSION,
            Self::Containerd => CONTAINERD_VERSION,
            Self::Cni => CNI_VERSION,
            Self::Helm => HELM_VERSION,
        }
    }

    /// The module that the programs are packages of.
    fn module(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::Kubernetes => "k8s.io/kubernetes",
            Self::Kwok => "sigs.k8s.io/kwok",
            Self::CoreDns => "github.com/coredns/coredns",
            Self::Containerd => "github.com/containerd/containerd/v2",
            Self::Cni => "github.com/containernetworking/plugins",
            Self::Helm => "helm.sh/helm/v4",
        }
    }

    /// The folder of our module, which pins it.
    pub(super) fn folder(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("binaries").join(self.name())
    }

    /// Strips symbols, and stamps the version where the release build would: clients otherwise see v0.0.0.
    pub(super) fn linker_flags(self) -> String {
        let version = self.version();
        let stamps = match self {
            // They carry their version in their source.
            Self::Etcd | Self::CoreDns => Vec::new(),
            Self::Kubernetes => {
                let mut numbers = version.trim_start_matches('v').split('.');
                let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
                vec![
                    format!("k8s.io/component-base/version.gitMajor={major}"),
                    format!("k8s.io/component-base/version.gitMinor={minor}"),
                    format!("k8s.io/component-base/version.gitVersion={version}"),
                    "k8s.io/component-base/version.gitTreeState=clean".to_owned(),
                    format!("k8s.io/client-go/pkg/version.gitVersion={version}"),
                ]
            }
            Self::Kwok => vec![format!("sigs.k8s.io/kwok/pkg/consts.Version={version}")],
            Self::Containerd => vec![format!("{}/version.Version={version}", self.module())],
            Self::Cni => {
                vec![format!("{}/pkg/utils/buildversion.BuildVersion={version}", self.module())]
            }
            Self::Helm => vec![format!("{}/internal/version.version={version}", self.module())],
        };
        stamps.iter().fold("-s -w".to_owned(), |flags, stamp| format!("{flags} -X {stamp}"))
    }
}

impl Recipe {
    /// The Go package to build.
    pub(super) fn package(&self) -> String {
        format!("{}{}", self.project.module(), self.folder)
    }

    /// Where the program will be.
    pub(super) fn target(&self, cache: &Cache) -> PathBuf {
        cache.binaries(self.project.name(), self.project.version()).join(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECTS: [Project; 7] = [
        Project::Etcd,
        Project::Kubernetes,
        Project::Kwok,
        Project::CoreDns,
        Project::Containerd,
        Project::Cni,
        Project::Helm,
    ];

    fn go_mod(project: Project) -> String {
        std::fs::read_to_string(project.folder().join("go.mod")).unwrap()
    }

    #[test]
    fn versions_equal_the_go_modules() {
        for project in PROJECTS {
            let requirement = format!("{} {}", project.module(), project.version());
            assert!(go_mod(project).contains(&requirement), "{}/go.mod lacks {requirement}", project.name());
        }
        let staging = KUBERNETES_VERSION.replacen("v1", "v0", 1);
        let text = go_mod(Project::Kubernetes);
        let mut replacements = text.lines().filter(|line| line.contains(" => k8s.io/"));
        assert!(replacements.all(|line| line.ends_with(&staging)), "a staging module is not {staging}");
    }

    #[test]
    fn every_recipe_is_a_tool_of_its_module() {
        for recipe in CONTROL_PLANE.iter().chain(&NODE).chain([&HELM]) {
            assert!(go_mod(recipe.project).contains(&recipe.package()), "{}", recipe.name);
        }
    }

    #[test]
    fn the_version_is_stamped() {
        let flags = Project::Kubernetes.linker_flags();
        assert!(flags.contains("version.gitMinor=37 "), "{flags}");
        assert!(flags.contains("component-base/version.gitVersion=v1.37.2"), "{flags}");
    }
}

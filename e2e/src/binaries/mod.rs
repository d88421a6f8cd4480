//! The programs of the control plane, built from source by `go build`.
//!
//! No package registry ships them, but the Go module proxy has their modules. `e2e/binaries/*/go.mod` pin them, and
//! an interrupted build goes on where it stopped, since Go caches each package that it has compiled.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cache::{self, Cache};
use crate::error::{Error, IoContext};
use crate::lock::{self, Lock};
use crate::process::{self, Lifetime, Process, Program};
use crate::progress;

/// The Kubernetes of the cluster. Its go.mod must say the same, and names the staging modules one by one.
pub const KUBERNETES_VERSION: &str = "v1.37.2";
/// The etcd below it.
pub const ETCD_VERSION: &str = "v3.6.6";
/// The kwok that plays the nodes.
pub const KWOK_VERSION: &str = "v0.8.0";

/// Modules, build cache and binaries together, with room to spare.
const FIRST_BUILD_GIB: u64 = 8;
const GIB: u64 = 1 << 30;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub apiserver: PathBuf,
    /// kube-controller-manager.
    pub controller_manager: PathBuf,
    /// kube-scheduler.
    pub scheduler: PathBuf,
    /// kubectl, of the same version.
    pub kubectl: PathBuf,
    /// kwok, which plays the kubelets of the fake nodes.
    pub kwok: PathBuf,
}

/// One program to build.
#[derive(Clone, Copy, Debug)]
struct Recipe {
    name: &'static str,
    project: Project,
    package: &'static str,
    /// Seconds that a first build took on two cores, to tell whoever waits.
    usual_seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Project {
    Etcd,
    Kubernetes,
    Kwok,
}

const RECIPES: [Recipe; 6] = [
    Recipe { name: "etcd", project: Project::Etcd, package: "go.etcd.io/etcd/server/v3", usual_seconds: 80 },
    Recipe {
        name: "kube-apiserver",
        project: Project::Kubernetes,
        package: "k8s.io/kubernetes/cmd/kube-apiserver",
        usual_seconds: 325,
    },
    Recipe {
        name: "kube-controller-manager",
        project: Project::Kubernetes,
        package: "k8s.io/kubernetes/cmd/kube-controller-manager",
        usual_seconds: 90,
    },
    Recipe {
        name: "kube-scheduler",
        project: Project::Kubernetes,
        package: "k8s.io/kubernetes/cmd/kube-scheduler",
        usual_seconds: 15,
    },
    Recipe {
        name: "kubectl",
        project: Project::Kubernetes,
        package: "k8s.io/kubernetes/cmd/kubectl",
        usual_seconds: 30,
    },
    Recipe { name: "kwok", project: Project::Kwok, package: "sigs.k8s.io/kwok/cmd/kwok", usual_seconds: 120 },
];

impl Project {
    /// The folder under `e2e/binaries`, and the stem of the folder in the cache.
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Kubernetes => "kubernetes",
            Self::Kwok => "kwok",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Etcd => ETCD_VERSION,
            Self::Kubernetes => KUBERNETES_VERSION,
            Self::Kwok => KWOK_VERSION,
        }
    }

    fn module(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("binaries").join(self.name())
    }

    /// Strips symbols, and stamps the version where the release build would: clients otherwise see v0.0.0.
    fn linker_flags(self) -> String {
        let version = self.version();
        let stamps = match self {
            Self::Etcd => Vec::new(),
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
        };
        stamps.iter().fold("-s -w".to_owned(), |flags, stamp| format!("{flags} -X {stamp}"))
    }
}

impl Recipe {
    fn target(&self, cache: &Cache) -> PathBuf {
        cache.binaries(self.project.name(), self.project.version()).join(self.name)
    }
}

/// Builds what is missing, with progress on standard error, and says where everything is.
///
/// One build at a time, by a lock: whoever comes second waits and finds the work done.
pub async fn ensure_binaries() -> Result<Binaries, Error> {
    let cache = Cache::locate()?;
    let missing = || RECIPES.iter().filter(|recipe| !recipe.target(&cache).is_file()).collect::<Vec<_>>();
    if !missing().is_empty() {
        let _lock = Lock::acquire(&cache.build_lock(), lock::PATIENCE).await?;
        let missing = missing();
        if missing.len() == RECIPES.len() {
            check_disk(&cache)?;
        }
        for (index, recipe) in missing.iter().enumerate() {
            build(recipe, &cache, index + 1, missing.len()).await?;
        }
    }
    let [etcd, apiserver, controller_manager, scheduler, kubectl, kwok] = RECIPES.map(|recipe| recipe.target(&cache));
    Ok(Binaries { etcd, apiserver, controller_manager, scheduler, kubectl, kwok })
}

/// Go writes to a temporary name, so that a file under the real name is always whole.
async fn build(recipe: &Recipe, cache: &Cache, number: usize, count: usize) -> Result<(), Error> {
    let target = recipe.target(cache);
    let folder = target.with_file_name("");
    cache::create_private(&folder)?;
    let partial = folder.join(format!(".{}.partial", recipe.name));
    let log = folder.join(format!("{}.log", recipe.name));
    let go = go_path()?;
    let arguments = ["build", "-v", "-o"]
        .map(OsString::from)
        .into_iter()
        .chain([partial.clone().into_os_string(), "-ldflags".into(), recipe.project.linker_flags().into()])
        .chain([recipe.package.into()])
        .collect();
    let program = Program {
        name: recipe.name.to_owned(),
        path: go,
        arguments,
        // A go.work file above this repository must not change what is built.
        environment: vec![("CGO_ENABLED", "0".into()), ("GOWORK", "off".into())],
        folder: recipe.project.module(),
    };
    let mut process = Process::spawn(program, &log, Lifetime::Tied)?;
    let label = format!("[{number}/{count}] building {} {}", recipe.name, recipe.project.version());
    let how_far = || format!("{} (a first build takes about {} s)", describe(&read(&log)), recipe.usual_seconds);
    progress::step(&label, how_far, async {
        loop {
            match process.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(_) => {
                    return Err(Error::Build { binary: recipe.name, log: log.clone(), tail: process::tail(&log) });
                }
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    })
    .await?;
    fs::rename(&partial, &target).context("renaming", &partial)?;
    fs::remove_file(&log).context("removing", &log)
}

fn read(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

/// How far a build is: `go build -v` prints one line for each package that it compiles, and one for each download.
fn describe(log: &str) -> String {
    let (notes, packages): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with("go: "));
    match notes.iter().filter(|note| note.starts_with("go: downloading")).count() {
        0 => format!("{} packages compiled", packages.len()),
        modules => format!("{modules} modules downloaded, {} packages compiled", packages.len()),
    }
}

/// Found here rather than by the child, whose wrapper could only say that something is missing.
fn go_path() -> Result<PathBuf, Error> {
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|folder| folder.join("go"))
        .find(|candidate| candidate.is_file())
        .ok_or(Error::MissingTool {
            tool: "go",
            remedy: "install Go 1.26 or newer, which builds the control plane from source",
        })
}

/// A first build that fills the disk fails late and obscurely, so it is refused early.
fn check_disk(cache: &Cache) -> Result<(), Error> {
    let output = Command::new(go_path()?).args(["env", "GOCACHE", "GOMODCACHE"]).output();
    let output = output.context("running", Path::new("go env"))?;
    let go_folders = String::from_utf8_lossy(&output.stdout).into_owned();
    let folders = go_folders.lines().map(PathBuf::from).chain([cache.root().to_owned()]);
    for folder in folders {
        // What is not made yet will be on the file system of its closest parent.
        let Some(existing) = folder.ancestors().find(|ancestor| ancestor.exists()) else { continue };
        let stat = rustix::fs::statvfs(existing).map_err(io::Error::from).context("examining", existing)?;
        let free = stat.f_bavail * stat.f_frsize;
        if free < FIRST_BUILD_GIB * GIB {
            return Err(Error::DiskSpace { folder, free_gib: free / GIB, needed_gib: FIRST_BUILD_GIB });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go_mod(project: Project) -> String {
        fs::read_to_string(project.module().join("go.mod")).unwrap()
    }

    #[test]
    fn versions_equal_the_go_modules() {
        let modules = [
            (Project::Kubernetes, "k8s.io/kubernetes"),
            (Project::Etcd, "go.etcd.io/etcd/server/v3"),
            (Project::Kwok, "sigs.k8s.io/kwok"),
        ];
        for (project, module) in modules {
            let requirement = format!("{module} {}", project.version());
            assert!(go_mod(project).contains(&requirement), "{}/go.mod lacks {requirement}", project.name());
        }
        let staging = KUBERNETES_VERSION.replacen("v1", "v0", 1);
        let text = go_mod(Project::Kubernetes);
        let mut replacements = text.lines().filter(|line| line.contains(" => k8s.io/"));
        assert!(replacements.all(|line| line.ends_with(&staging)), "a staging module is not {staging}");
    }

    #[test]
    fn every_recipe_is_a_tool_of_its_module() {
        for recipe in RECIPES {
            assert!(go_mod(recipe.project).contains(recipe.package), "{}", recipe.name);
        }
    }

    #[test]
    fn progress_counts_packages_and_downloads() {
        assert_eq!(describe(""), "0 packages compiled");
        let log = "go: downloading k8s.io/api v0.37.2\nk8s.io/api/core/v1\ncmp\n";
        assert_eq!(describe(log), "1 modules downloaded, 2 packages compiled");
    }

    #[test]
    fn the_version_is_stamped() {
        let flags = Project::Kubernetes.linker_flags();
        assert!(flags.contains("version.gitMinor=37 "), "{flags}");
        assert!(flags.contains("component-base/version.gitVersion=v1.37.2"), "{flags}");
    }
}

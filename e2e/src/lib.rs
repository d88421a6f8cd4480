//! An embedded Kubernetes for tests, benchmarks and the demo: real etcd, kube-apiserver, kube-controller-manager and
//! kube-scheduler as plain processes, kwok's fake nodes, and a real node in namespaces of its own.
//!
//! [`Cluster::start`] is for programs; it lives and dies with them. [`up`] leaves a cluster running for a person.
//! Both build the programs from source first ([`ensure_binaries`]), which takes about 15 minutes once for a machine, and
//! 7 more for those of a real node; [`ensure_helm`] takes 3. A program that wants one calls [`dispatch`] first.
//!
//! | module | what |
//! | --- | --- |
//! | `cache`, `run_folder`, `state`, `lock` | what is on disk, whose it is, and how a dead run's leftovers are found |
//! | `tools`, `binaries`, `images` | what the machine must have; `go build`, once for each version; container images |
//! | `command`, `process`, `helper`, `dispatch` | programs run to their end; children that never outlive their purpose; this program as its own child |
//! | `certs`, `kubeconfig`, `control_plane`, `kwok` | the cluster's parts |
//! | `network`, `cgroups`, `node`, `volumes` | the real node |
//! | `options`, `cluster`, `keep` | the whole, within a process or kept for a person |
//! | `helm`, `release` | Trainyard in it, as users have it: a release of the chart |
//! | `operator` | the operator as a process outside it, under the rights of that release |
//! | `operator_binary`, `static_target`, `revision` | the operator's static binary, and the commit that it is built from |
//! | `install` | objects of any kind; clusters that are not ours |
//! | `hostile` | what a tenant may put into the cluster to hurt the operator |
//! | `server`, `steady_load` | the inference server of an image; requests at a fixed rate, and what becomes of them |
//! | `demo`, `bench`, `all` | the main job from one command; the budgets, measured; what is too long for CI |
//! | `progress`, `interrupt` | what a person sees, and Ctrl-C |

pub mod all;
pub mod bench;
mod binaries;
mod cache;
mod certs;
mod cgroups;
mod cluster;
pub mod command;
mod control_plane;
pub mod demo;
mod dispatch;
mod error;
pub mod helm;
mod helper;
pub mod hostile;
pub mod images;
pub mod install;
mod interrupt;
mod keep;
mod kubeconfig;
mod kwok;
mod lock;
mod network;
mod node;
pub mod operator;
mod operator_binary;
mod options;
mod process;
mod progress;
pub mod release;
mod revision;
mod run_folder;
pub mod server;
mod state;
mod static_target;
pub mod steady_load;
mod tools;
mod volumes;

pub use binaries::{
    Binaries, ETCD_VERSION, HELM_VERSION, KUBERNETES_VERSION, KWOK_VERSION, NodeBinaries, ensure_binaries, ensure_helm,
    ensure_kubectl, ensure_node_binaries,
};
pub use cluster::Cluster;
pub use dispatch::dispatch;
pub use error::Error;
pub use interrupt::until_interrupted;
pub use keep::{ComponentStatus, Status, Up, down, kubeconfig, status, up};
pub use node::{NODE_NAME, Node, TAINT, check_requirements, placement};
pub use operator_binary::{Build, build_operator, target_folder};
pub use options::{ClusterOptions, NodeOptions};

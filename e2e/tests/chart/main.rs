//! The chart and the kustomize bases, as the real Helm and the real kubectl render them. No cluster is needed.
//!
//! After a change of the chart: `TRAINYARD_UPDATE=1 cargo test -p e2e --test chart` writes the files of `config/base` and
//! `config/kustomize` again.
//!
//! | module | what |
//! | --- | --- |
//! | `tools` | Helm and kubectl, and the objects that they render |
//! | `refusals` | what `values.schema.json` refuses, and that it names the key |
//! | `rendering` | what is rendered for which values; tidiness of all of it |
//! | `names` | names and labels that are easily mistaken |
//! | `notes` | what Helm says after an installation |
//! | `namespaced` | an installation without rights in the cluster |
//! | `pods` | Pod Security "restricted" |
//! | `kustomize` | `config/base` and `config/namespaced` are the chart's defaults |
//! | `references` | kustomize follows references in our kinds |
//! | `argocd` | Argo CD's health of our kinds |
//! | `monitoring` | alerts and dashboard ask for metrics that exist |
//! | `sizes` | how large the chart, its CRDs and a release are |

mod argocd;
mod kustomize;
mod monitoring;
mod names;
mod namespaced;
mod notes;
mod pods;
mod references;
mod refusals;
mod rendering;
mod sizes;
mod tools;

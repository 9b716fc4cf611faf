//! Weft in Kubernetes: what a pod needs to be in the mesh, and who puts it there.
//!
//! `inject` decides what is added to a pod; `manifest` does it to files of manifests, `webhook` to
//! pods that the API server shows it, which `install` puts into a cluster. Nothing here knows servers, agents and proxies from within.

pub mod inject;
pub mod install;
pub mod manifest;
pub mod webhook;

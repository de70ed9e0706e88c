//! The CustomResourceDefinition and the operator against a real kube-apiserver. No kubelet and no controllers run here: the
//! tests write the status of pods themselves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/apiserver.rs"]
mod apiserver;
mod audit;
#[path = "../harness/audit_schema.rs"]
mod audit_schema;
mod canary;
mod chart;
mod cilium;
#[path = "../harness/cilium.rs"]
mod cilium_definition;
mod clocks;
mod cost;
mod doctor;
mod egress;
#[path = "../harness/eventually.rs"]
mod eventually;
mod faults;
mod idle;
mod leadership;
mod metrics;
#[path = "../harness/openmetrics.rs"]
mod openmetrics;
mod operator;
mod others;
mod outage;
mod pod_security;
mod proxy;
mod recovery;
#[path = "../harness/requests.rs"]
mod requests;
mod rights;
mod schema;
mod terminal_tls;
mod uninstall;
mod volumes;
mod workspaces;

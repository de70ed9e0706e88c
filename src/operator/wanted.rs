//! The desired objects become what a pass compares with those that are there. Pure.
//!
//! It is small, and remembered for as long as the spec does not change: most passes find everything as desired, and need
//! not build it.

use super::content::{Content, Decided};
use super::drift::Template;
use crate::render::Desired;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// In the order of [`Desired::policies`].
    pub policies: [Content; 3],
    /// With that backend alone.
    pub cilium_policy: Option<Content>,
    pub service_account: Content,
    pub role: Content,
    pub role_binding: Content,
    pub service: Content,
    pub template: Template,
}

impl Wanted {
    pub fn of(desired: &Desired) -> Self {
        Self {
            policies: desired.policies.each_ref().map(Decided::content),
            cilium_policy: desired.cilium_policy.as_ref().map(Decided::content),
            service_account: desired.service_account.content(),
            role: desired.role.content(),
            role_binding: desired.role_binding.content(),
            service: desired.service.content(),
            template: Template::of(&desired.pod),
        }
    }
}

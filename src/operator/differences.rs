//! Wanted and observed become the writes that make the one of the other. Pure.

use super::contain::own_pod;
use super::content::Content;
use super::observe::Observed;
use super::owner::Controller;
use super::plan::Step;
use super::retain;
use super::seen::Seen;
use super::wanted::Wanted;
use crate::render::ValidWorkspace;
use std::sync::Arc;

/// In the order in which they must be: nothing may run before the policies are there.
pub fn missing_or_different(workspace: &ValidWorkspace, wanted: &Wanted, observed: &Observed) -> Vec<Step> {
    let holds =
        |there: &Option<Arc<Seen>>, wanted: Content| there.as_deref().is_some_and(|there| there.content == wanted);
    let policies = observed.policies.iter().zip(wanted.policies).enumerate();
    // First: with it, the policy that said the same before gets empty.
    let cilium_policy = wanted
        .cilium_policy
        .filter(|wanted| !holds(&observed.cilium_policy, *wanted));
    let mut steps: Vec<Step> = cilium_policy.map(|_| Step::ApplyCiliumPolicy).into_iter().collect();
    let different = policies.filter(|(_, (there, wanted))| !holds(there, *wanted));
    steps.extend(different.map(|(index, _)| Step::ApplyPolicy(index)));
    // Behind the policy that takes its place: what both allow is never cut off.
    if wanted.cilium_policy.is_none() && observed.cilium_policy.is_some() {
        steps.push(Step::DeleteCiliumPolicy);
    }
    if !holds(&observed.service_account, wanted.service_account) {
        steps.push(Step::ApplyServiceAccount);
    }
    if !holds(&observed.role, wanted.role) {
        steps.push(Step::ApplyRole);
    }
    if !holds(&observed.role_binding, wanted.role_binding) {
        steps.push(Step::ApplyRoleBinding);
    }
    if !holds(&observed.service, wanted.service) {
        steps.push(Step::ApplyService);
    }
    match observed.pvc.as_deref() {
        None => steps.push(Step::CreateVolumeClaim),
        Some(claim) if retain::patch(claim, workspace).is_some() => steps.push(Step::SetVolumeClaimOwner),
        Some(_) => {}
    }
    steps
}

/// The policies and rights of a pod that runs are put right, though nothing can be made: but for those that are someone else's, and but for
/// what may be reached where that can't be seen.
pub fn confining(workspace: &ValidWorkspace, wanted: &Wanted, observed: &Observed) -> Vec<Step> {
    if own_pod(workspace, observed).is_none() {
        return vec![];
    }
    let is_ours = |there: &Option<Arc<Seen>>| {
        there
            .as_deref()
            .is_none_or(|there| Controller::is(there.controller.as_ref(), &workspace.uid))
    };
    let [deny_all, egress, ingress] = &observed.policies;
    let reach_is_ours = !observed.policies_unreadable && is_ours(egress) && is_ours(&observed.cilium_policy);
    let is_safe = |step: &Step| match step {
        Step::ApplyPolicy(0) => is_ours(deny_all),
        Step::ApplyPolicy(1) | Step::ApplyCiliumPolicy | Step::DeleteCiliumPolicy => reach_is_ours,
        Step::ApplyPolicy(_) => is_ours(ingress),
        Step::ApplyRole => observed.role.is_some() && is_ours(&observed.role),
        _ => false,
    };
    let steps = missing_or_different(workspace, wanted, observed);
    steps.into_iter().filter(is_safe).collect()
}

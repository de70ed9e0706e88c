//! Questions whether somebody may do something become the rights that are missing.

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use std::fmt;

/// Questions that are under way at once.
const CONCURRENT: usize = 16;

/// One right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// `None` for what is in no namespace.
    pub namespace: Option<String>,
    /// The API group; empty for the core one.
    pub group: String,
    /// With its subresource behind a slash.
    pub resource: String,
    pub verb: String,
    /// The one object that it is about; `None` for any.
    pub name: Option<String>,
}

/// Who is asked about.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Who asks. Everybody may.
    Caller,
    /// A service account. It takes the right to create SubjectAccessReviews.
    ServiceAccount { namespace: String, name: String },
}

impl Right {
    /// A right on the objects of a namespace.
    pub fn within(namespace: &str, group: &str, resource: &str, verb: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..Self::anywhere(group, resource, verb)
        }
    }

    /// A right on what is in no namespace.
    pub fn anywhere(group: &str, resource: &str, verb: &str) -> Self {
        Self {
            namespace: None,
            group: group.to_owned(),
            resource: resource.to_owned(),
            verb: verb.to_owned(),
            name: None,
        }
    }

    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..self
        }
    }

    fn attributes(&self) -> ResourceAttributes {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (self.resource.as_str(), None),
        };
        ResourceAttributes {
            namespace: self.namespace.clone(),
            group: Some(self.group.clone()),
            resource: Some(resource.to_owned()),
            subresource,
            verb: Some(self.verb.clone()),
            name: self.name.clone(),
            ..ResourceAttributes::default()
        }
    }
}

/// `create pods in workspaces`.
impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            group,
            resource,
            verb,
            name,
        } = self;
        write!(f, "{verb} {resource}")?;
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        if let Some(name) = name {
            write!(f, " {name}")?;
        }
        match namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => Ok(()),
        }
    }
}

/// Who the caller is, as the API server has it: the user name. `None` where it does not tell (before Kubernetes 1.28).
pub async fn caller(client: &Client) -> Option<String> {
    let review = SelfSubjectReview::default();
    let answer: SelfSubjectReview = Api::all(client.clone())
        .create(&PostParams::default(), &review)
        .await
        .ok()?;
    answer.status?.user_info?.username
}

/// Those of `rights` that `subject` does not have, in their order.
///
/// # Errors
/// When the API server does not answer, or the caller may not ask about others (403).
pub async fn missing(client: &Client, subject: &Subject, rights: Vec<Right>) -> Result<Vec<Right>, kube::Error> {
    let answers = stream::iter(rights).map(|right| {
        let (client, subject) = (client.clone(), subject.clone());
        async move {
            let is_allowed = allowed(&client, &subject, &right).await?;
            Ok::<_, kube::Error>((right, is_allowed))
        }
    });
    let answers: Vec<(Right, bool)> = answers.buffered(CONCURRENT).try_collect().await?;
    let missing = answers.into_iter().filter(|(_, is_allowed)| !is_allowed);
    Ok(missing.map(|(right, _)| right).collect())
}

async fn allowed(client: &Client, subject: &Subject, right: &Right) -> Result<bool, kube::Error> {
    let attributes = Some(right.attributes());
    let parameters = PostParams::default();
    let status = match subject {
        Subject::Caller => {
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: attributes,
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            Api::all(client.clone()).create(&parameters, &review).await?.status
        }
        Subject::ServiceAccount { namespace, name } => {
            let review = SubjectAccessReview {
                spec: SubjectAccessReviewSpec {
                    resource_attributes: attributes,
                    user: Some(format!("system:serviceaccount:{namespace}:{name}")),
                    groups: Some(vec![
                        "system:serviceaccounts".to_owned(),
                        format!("system:serviceaccounts:{namespace}"),
                        "system:authenticated".to_owned(),
                    ]),
                    ..SubjectAccessReviewSpec::default()
                },
                ..SubjectAccessReview::default()
            };
            Api::all(client.clone()).create(&parameters, &review).await?.status
        }
    };
    Ok(status.is_some_and(|status| status.allowed))
}

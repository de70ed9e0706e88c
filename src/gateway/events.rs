//! The watch of Workspaces becomes server-sent events for one user's page: no polling, by nobody.
//!
//! Event `workspace` has a [`View`] as JSON; the first comes at once. Event `gone` says that there is no Workspace, and is the
//! last. Following wakes nothing and makes nothing.

use super::authn::authenticate;
use super::index::{Followed, recorded_owner};
use super::places::Place;
use super::progress::View;
use super::reject::Rejection;
use super::respond::{self, Answer};
use super::service::{Asked, Gateway};
use super::standing::Over;
use super::vigil;
use crate::config::limits::Places;
use crate::identity::Identity;
use bytes::Bytes;
use futures::stream;
use kube::ResourceExt;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Streams of one user at a gateway: a tab has one, and each keeps a connection.
pub const PLACES: Places = Places {
    connections: None,
    terminals: None,
    terminals_per_user: NonZeroUsize::new(32),
};
/// Keeps proxies from closing a quiet connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// For a Workspace that was made a moment ago to be seen by the watch.
const GRACE: Duration = Duration::from_secs(10);
const GONE: Bytes = Bytes::from_static(b"event: gone\ndata: {}\n\n");
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// # Errors
/// When nobody is signed in, it is not known which Workspace is theirs, or they follow it too often.
pub async fn follow(gateway: &Arc<Gateway>, asked: &Asked) -> Result<Answer, Rejection> {
    let caller = match authenticate(gateway, asked).await {
        // What is said of it is the same as to who followed it when it was deleted: a page begins no session by itself.
        Err(Rejection::WorkspaceGone) => return Ok(respond::events(stream::iter([GONE]))),
        authenticated => authenticated?,
    };
    let found = gateway.workspaces.find(&caller.person.identity)?;
    let name = found.map_or_else(|| caller.user_id.to_string(), |workspace| workspace.name_any());
    let place = gateway.streams.enter(caller.user_id.as_str(), 0);
    let place = place.map_err(|_| Rejection::TooManyStreams)?;
    let owner = caller.person.identity.clone();
    let (guarded, watched) = (Arc::clone(gateway), name.clone());
    let following = Following {
        followed: gateway.workspaces.follow(&name),
        owner,
        // To look at a page is no use of it.
        over: Box::pin(async move { vigil::over(&guarded, &caller, &watched, || None).await }),
        gateway: Arc::clone(gateway),
        told: None,
        ended: false,
        _place: place,
    };
    let events = stream::unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((event, following))
    });
    Ok(respond::events(events))
}

struct Following {
    followed: Followed,
    owner: Identity,
    over: Pin<Box<dyn Future<Output = Over> + Send>>,
    gateway: Arc<Gateway>,
    told: Option<View>,
    ended: bool,
    _place: Place,
}

impl Following {
    /// The next event; `None` when the stream ends: the session has, or the gateway is stopping, or the Workspace is gone.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let gateway = Arc::clone(&self.gateway);
        let mut over = std::mem::replace(&mut self.over, Box::pin(std::future::pending()));
        let event = tokio::select! {
            // A session ends with its Workspace: that is told first.
            biased;
            event = self.event() => event,
            () = sleep(KEEP_ALIVE) => Some(COMMENT),
            () = gateway.drain.stopping() => None,
            () = gateway.workspaces.lost() => None,
            _ = &mut over => None,
        };
        self.over = over;
        event
    }

    async fn event(&mut self) -> Option<Bytes> {
        loop {
            match self.view() {
                Some(view) if self.told.as_ref() != Some(&view) => {
                    let json = serde_json::to_string(&view).ok()?;
                    self.told = Some(view);
                    return Some(Bytes::from(format!("event: workspace\ndata: {json}\n\n")));
                }
                None if self.told.is_some() => return self.gone(),
                None => match timeout(GRACE, self.followed.changed()).await {
                    Ok(changed) => changed.ok()?,
                    Err(_) => return self.gone(),
                },
                Some(_) => self.followed.changed().await.ok()?,
            }
        }
    }

    fn gone(&mut self) -> Option<Bytes> {
        self.ended = true;
        Some(GONE)
    }

    /// How the Workspace is now; `None` when there is none, or it is someone else's.
    fn view(&mut self) -> Option<View> {
        let workspace = self.followed.borrow_and_update().clone()?;
        let is_own = recorded_owner(&workspace).is_some_and(|owner| owner == self.owner);
        is_own.then(|| View::of(&workspace, &self.gateway.workspaces.namespace))
    }
}

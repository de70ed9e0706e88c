//! The identity provider's answers become a person: OpenID Connect Core 1.0 with the authorization code flow.
//!
//! `discovery -> sign-in (state, nonce, PKCE) -> code -> ID token -> Person`. Tokens are checked in one place, `verify`,
//! whether they come from a sign-in or from an `Authorization: Bearer` header. `survey` looks at a provider before anybody signs in.

mod entry;
mod http;
mod logout;
mod provider;
mod refresh;
mod sign_in;
pub mod survey;
mod verify;

pub use entry::NotAllowed;
pub use logout::{Logout, LogoutError};
pub use provider::{Provider, ProviderError};
pub use refresh::{RefreshError, Refreshed};
pub use sign_in::{Attempt, SignInError, SignedIn};
pub use verify::{Person, TokenError, provider_session};

//! A path becomes a route: the only place that knows the gateway's paths.

use hyper::Method;

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    Login,
    Callback,
    Logout,
    /// Where the provider sends a browser that signed out there too.
    SignedOut,
    /// Where the provider says that someone signed out.
    BackchannelLogout,
    Workspace,
    WorkspaceEvents,
    /// Its user wants it to start anew.
    WorkspaceRestart,
    /// Its user wants it to go on, though nobody types.
    WorkspaceKeepWorking,
    /// The WebSocket.
    Terminal,
    Health,
    Ready,
    Metrics,
    /// A file of the pages, by its whole path.
    Asset(&'a str),
    /// The one page: the terminal, or how far its start has come.
    Page,
    Unknown,
}

pub const LOGIN: &str = "/login";
pub const SIGNED_OUT: &str = "/signed-out";

impl<'a> Route<'a> {
    /// Paths are compared as they came: nothing is decoded, so that no second spelling of a path exists.
    pub fn of(path: &'a str) -> Self {
        match path {
            LOGIN => Self::Login,
            "/callback" => Self::Callback,
            "/logout" => Self::Logout,
            SIGNED_OUT => Self::SignedOut,
            "/backchannel-logout" => Self::BackchannelLogout,
            "/api/workspace" => Self::Workspace,
            "/api/workspace/events" => Self::WorkspaceEvents,
            "/api/workspace/restart" => Self::WorkspaceRestart,
            "/api/workspace/keep-working" => Self::WorkspaceKeepWorking,
            "/ws" => Self::Terminal,
            "/health" => Self::Health,
            "/readyz" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/" => Self::Page,
            "/favicon.ico" => Self::Asset(path),
            _ if path.starts_with("/assets/") => Self::Asset(path),
            _ => Self::Unknown,
        }
    }

    /// The methods that the route takes, as an `Allow` header has them (RFC 9110, section 10.2.1).
    pub fn allow(self) -> &'static str {
        match self {
            Self::BackchannelLogout | Self::WorkspaceRestart | Self::WorkspaceKeepWorking => "POST",
            Self::Logout | Self::Workspace => "GET, HEAD, POST",
            Self::Terminal | Self::WorkspaceEvents => "GET",
            _ => "GET, HEAD",
        }
    }

    pub fn allows(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }

    /// Whether programs call it: its errors are JSON whatever `Accept` says.
    pub fn is_api(self) -> bool {
        matches!(
            self,
            Self::BackchannelLogout
                | Self::Workspace
                | Self::WorkspaceEvents
                | Self::WorkspaceRestart
                | Self::WorkspaceKeepWorking
                | Self::Terminal
        )
    }

    /// Whether its user is there: a page that is loaded, or a button that is pressed. A page connects again by itself.
    pub fn is_use(self) -> bool {
        matches!(self, Self::Page | Self::WorkspaceRestart | Self::WorkspaceKeepWorking)
    }

    /// Whether someone calls it every few seconds, so that a log line for each would hide the others.
    pub fn is_probe(self) -> bool {
        matches!(self, Self::Health | Self::Ready | Self::Metrics)
    }

    /// The name in log lines: a fixed word, never the path, which may be anything.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Callback => "callback",
            Self::Logout => "logout",
            Self::SignedOut => "signed_out",
            Self::BackchannelLogout => "backchannel_logout",
            Self::Workspace => "workspace",
            Self::WorkspaceEvents => "workspace_events",
            Self::WorkspaceRestart => "workspace_restart",
            Self::WorkspaceKeepWorking => "workspace_keep_working",
            Self::Terminal => "terminal",
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Metrics => "metrics",
            Self::Asset(_) => "asset",
            Self::Page => "page",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        assert_eq!(Route::of("/ws"), Route::Terminal);
        for path in ["/ws/", "//ws", "/WS", "/%77s", "/./ws", "/x/../ws", "/ws;a", "ws", ""] {
            assert_eq!(Route::of(path), Route::Unknown, "{path}");
        }
        assert_eq!(Route::of("/assets/a.js"), Route::Asset("/assets/a.js"));
    }

    #[test]
    fn methods() {
        assert!(Route::Workspace.allows(&Method::POST));
        assert!(Route::Page.allows(&Method::HEAD));
        assert!(!Route::Terminal.allows(&Method::POST));
        assert!(Route::Logout.allows(&Method::GET) && !Route::BackchannelLogout.allows(&Method::GET));
        assert!(!Route::Page.allows(&Method::OPTIONS));
        for path in ["/api/workspace/restart", "/api/workspace/keep-working"] {
            let route = Route::of(path);
            assert!(
                route.is_api() && route.allows(&Method::POST) && !route.allows(&Method::GET),
                "{path}"
            );
        }
    }
}

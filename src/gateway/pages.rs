//! What a person is told becomes a page: the fields of the templates.

use super::assets;
use super::progress::{Step, View};
use crate::config::recording::Notice;
use askama::Template;

/// What every page has: the paths of its files.
pub struct Files {
    pub style: &'static str,
    pub favicon: &'static str,
    pub manifest: &'static str,
}

const FILES: Files = Files {
    style: assets::PAGE_STYLE,
    favicon: assets::FAVICON,
    manifest: assets::MANIFEST,
};

/// The terminal.
#[derive(Template)]
#[template(path = "terminal.html")]
pub struct TerminalPage<'a> {
    files: Files,
    terminal_style: &'static str,
    script: &'static str,
    view: &'a View,
    recorded: Notice,
    /// What the user may do with the clipboard: a word of the setting.
    clipboard: &'static str,
}

impl<'a> TerminalPage<'a> {
    pub fn of(view: &'a View, recorded: Notice, clipboard: &'static str) -> Self {
        Self {
            files: FILES,
            terminal_style: assets::TERMINAL_STYLE,
            script: assets::TERMINAL_SCRIPT,
            view,
            recorded,
            clipboard,
        }
    }
}

/// How far a start has come; its script keeps it up to date.
#[derive(Template)]
#[template(path = "starting.html")]
pub struct StartingPage<'a> {
    files: Files,
    script: &'static str,
    view: &'a View,
    steps: &'a [Step],
    /// Whom the user may ask; empty when nobody said.
    contact: &'a str,
    /// For whoever is asked.
    request_id: &'a str,
}

impl<'a> StartingPage<'a> {
    pub fn of(view: &'a View, contact: &'a str, request_id: &'a str) -> Self {
        Self {
            files: FILES,
            script: assets::STARTING_SCRIPT,
            view,
            steps: &view.steps,
            contact,
            request_id,
        }
    }
}

/// Something to read, and one way on.
#[derive(Template)]
#[template(path = "message.html")]
pub struct MessagePage<'a> {
    files: Files,
    title: &'a str,
    text: &'a str,
    /// What to do about it; may be empty.
    hint: &'a str,
    action: Link,
    /// For whoever looks into the logs; empty when nothing went wrong.
    request_id: &'a str,
}

/// Asks whether to sign out.
#[derive(Template)]
#[template(path = "sign-out.html")]
pub struct SignOutPage {
    files: Files,
}

impl SignOutPage {
    pub fn new() -> Self {
        Self { files: FILES }
    }
}

/// A way on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub label: &'static str,
    pub href: &'static str,
}

impl<'a> MessagePage<'a> {
    pub fn new(title: &'a str, text: &'a str, hint: &'a str, action: Link, request_id: &'a str) -> Self {
        Self {
            files: FILES,
            title,
            text,
            hint,
            action,
            request_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Workspace, WorkspaceSpec};

    /// Every page, with `text` wherever someone else's text may stand.
    fn every_page(text: &str) -> [String; 3] {
        let mut workspace = Workspace::new("dev1", WorkspaceSpec::default());
        workspace.spec.user.email = text.to_owned();
        workspace.status = Some(crate::api::WorkspaceStatus {
            message: text.to_owned(),
            remediation_hint: text.to_owned(),
            ..crate::api::WorkspaceStatus::default()
        });
        let view = View::of(&workspace, "workspaces");
        let link = Link {
            label: "Sign in",
            href: "/login",
        };
        [
            TerminalPage::of(
                &view,
                Notice {
                    in_bar: true,
                    in_title: true,
                },
                "both",
            )
            .render()
            .unwrap(),
            StartingPage::of(&view, text, text).render().unwrap(),
            MessagePage::new(text, text, text, link, text).render().unwrap(),
        ]
    }

    /// An email is a claim, and a message may quote a pod's: neither is markup.
    #[test]
    fn text_stays_text() {
        for page in every_page("<script>alert(1)</script>\"'") {
            assert!(!page.contains("<script>") && !page.contains("\"'"), "{page}");
            assert!(page.contains("alert(1)"), "{page}");
        }
    }

    /// The Content-Security-Policy forbids both.
    #[test]
    fn no_page_has_a_script_or_style_of_its_own() {
        for page in every_page("text") {
            for forbidden in [
                "<script>",
                "<style",
                " style=",
                " onclick=",
                "javascript:",
                "http://",
                "https://",
            ] {
                assert!(!page.contains(forbidden), "{forbidden} in {page}");
            }
        }
    }
}

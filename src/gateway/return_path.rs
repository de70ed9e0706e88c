//! A `return` parameter becomes a path on this origin, or the page itself: never a way to another site.

use super::route::Route;
use url::Url;

const HOME: &str = "/";
const MAX_LENGTH: usize = 2048;

/// Where a browser goes after it has signed in: path and query on `public_url`'s origin. Whatever is not plainly that
/// becomes `/`, and so does every path that is no page.
pub fn return_path(text: &str, public_url: &Url) -> String {
    same_origin(text, public_url).unwrap_or_else(|| HOME.to_owned())
}

fn same_origin(text: &str, public_url: &Url) -> Option<String> {
    // Browsers take `\` for `/`, and drop tabs and line ends, before they look for a host.
    let plain = text.len() <= MAX_LENGTH
        && text.starts_with('/')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if !plain {
        return None;
    }
    let url = public_url.join(text).ok()?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let is_page = matches!(Route::of(url.path()), Route::Page | Route::Unknown);
    let stays = url.origin() == public_url.origin() && url.username().is_empty() && url.password().is_none();
    (stays && is_page && !target.starts_with("//")).then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base() -> Url {
        Url::parse("https://devplane.example.test/").unwrap()
    }

    #[test]
    fn pages_of_this_origin_are_kept() {
        assert_eq!(return_path("/", &base()), "/");
        assert_eq!(return_path("/?a=1", &base()), "/?a=1");
        assert_eq!(
            return_path("/?next=https://other.test/", &base()),
            "/?next=https://other.test/"
        );
    }

    #[test]
    fn the_usual_tricks_lead_home() {
        for trick in [
            "",
            "//other.test",
            "///other.test",
            "/\\other.test",
            "\\\\other.test",
            "https://other.test",
            "https:other.test",
            "javascript:alert(1)",
            "/\t/other.test",
            "/\n/other.test",
            " //other.test",
            "/.//other.test",
            "/x/..//other.test",
            "/%2e//other.test",
            "@other.test",
            "//devplane.example.test@other.test",
            "/callback?code=x",
            "/logout",
            "/login?return=/",
            "/ws",
            "/ä",
        ] {
            assert_eq!(return_path(trick, &base()), "/", "{trick:?}");
        }
        assert_eq!(return_path(&format!("/{}", "a".repeat(3000)), &base()), "/");
    }

    proptest! {
        #[test]
        fn a_browser_never_leaves(text in "[/\\\\a.:@%?#\\t\\n -~]{0,40}") {
            let target = return_path(&text, &base());
            let reached = base().join(&target).unwrap();
            prop_assert_eq!(reached.origin(), base().origin());
            prop_assert!(target.starts_with('/') && !target.starts_with("//"));
            prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}

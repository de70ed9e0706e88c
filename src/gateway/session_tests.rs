use super::*;
use proptest::prelude::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// A session that began a moment ago, to be refreshed 30 s before it is no longer valid.
pub fn session(valid_for: i64) -> Session {
    let valid_until = now() + SignedDuration::from_secs(valid_for);
    Session {
        id: "s1".into(),
        secret: "0123456789abcdef0123456789abcdef".to_owned().into(),
        began: now(),
        seen: now(),
        valid_until,
        refresh: Some(Refresh {
            token: "planted-refresh-token".to_owned().into(),
            at: valid_until - SignedDuration::from_secs(30),
            count: 0,
        }),
        person: Person {
            identity: Identity {
                issuer: "https://idp.test".into(),
                subject: "dev1".into(),
            },
            email: "dev1@example.test".into(),
            groups: vec!["staff".into()],
            is_admin: true,
            provider_session: Some("p1".into()),
            issued: now(),
            expires: valid_until,
        },
    }
}

fn large(characters: usize) -> Session {
    let mut large = session(60);
    // What does not repeat: nothing compresses it, and every part differs.
    let token: String = (0..characters / 8).map(|i| format!("{i:08x}")).collect();
    large.refresh.as_mut().unwrap().token = token.into();
    large
}

fn kept(cookies: &Cookies, session: &Session, headers: &HeaderMap) -> Option<Vec<HeaderValue>> {
    cookies.keep_session(session, session.valid_until, headers, now())
}

/// What a browser sends back for `Set-Cookie` headers.
fn sent(set: &[HeaderValue]) -> HeaderMap {
    let pairs: Vec<_> = set
        .iter()
        .map(|set| set.to_str().unwrap().split(';').next().unwrap())
        .collect();
    HeaderMap::from_iter([(
        COOKIE,
        HeaderValue::from_str(&format!("other=1; {}", pairs.join("; "))).unwrap(),
    )])
}

fn shown(cookies: &Cookies, headers: &HeaderMap) -> Option<Session> {
    match cookies.session(headers) {
        Presented::Session(session) => Some(*session),
        Presented::Nothing => None,
    }
}

#[test]
fn a_session_comes_back_as_it_was() {
    let cookies = Cookies::new(vec![Key::generate()]);
    let set = kept(&cookies, &session(60), &HeaderMap::new()).unwrap();
    let [only] = set.as_slice() else { panic!("{set:?}") };
    let text = only.to_str().unwrap();
    assert!(text.starts_with("__Host-devplane-session="), "{text}");
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Secure", "; Path=/", "; Max-Age=60"] {
        assert!(text.contains(attribute), "{text} lacks {attribute}");
    }
    assert!(!text.contains("Domain") && !text.contains("dev1"), "{text}");
    let back = shown(&cookies, &sent(&set)).unwrap();
    assert_eq!(back.person, session(60).person);
    assert_eq!((back.began, back.valid_until), (now(), session(60).valid_until));
    assert_eq!(back.refresh.unwrap().token.expose_secret(), "planted-refresh-token");
    assert!(shown(&cookies, &sent(&cookies.end_session(&HeaderMap::new()))).is_none());
    assert!(shown(&cookies, &HeaderMap::new()).is_none());
    assert!(!format!("{:?}", session(60)).contains("planted"));
}

#[test]
fn a_large_session_takes_several_cookies() {
    let cookies = Cookies::new(vec![Key::generate()]);
    let set = kept(&cookies, &large(6000), &HeaderMap::new()).unwrap();
    assert_eq!(set.len(), 3);
    assert!(set.iter().all(|set| set.len() <= MAX_COOKIE));
    let headers = sent(&set);
    let token = large(6000).refresh.unwrap().token;
    let back = shown(&cookies, &headers).unwrap().refresh.unwrap().token;
    assert_eq!(back.expose_secret(), token.expose_secret());
    // One that got smaller leaves nothing behind, and neither does one that ended.
    let smaller = kept(&cookies, &session(60), &headers).unwrap();
    assert_eq!(smaller.len(), 3);
    assert!(
        smaller[1..]
            .iter()
            .all(|set| set.to_str().unwrap().contains("Max-Age=0"))
    );
    assert_eq!(cookies.end_session(&headers).len(), 3);
    // Parts that are missing, exchanged or of different sessions are no session.
    let other = kept(&cookies, &large(6000), &HeaderMap::new()).unwrap();
    let renamed = |set: &HeaderValue, from: &str, to: &str| {
        HeaderValue::from_str(&set.to_str().unwrap().replacen(from, to, 1)).unwrap()
    };
    for wrong in [
        vec![set[0].clone(), set[1].clone()],
        vec![set[1].clone(), set[2].clone()],
        vec![set[0].clone(), other[1].clone(), set[2].clone()],
        vec![
            set[0].clone(),
            renamed(&set[2], "session-2", "session-1"),
            renamed(&set[1], "session-1", "session-2"),
        ],
        vec![renamed(&set[0], "=3:", "=2:"), set[1].clone(), set[2].clone()],
        vec![renamed(&set[0], "=3:", "=9:"), set[1].clone(), set[2].clone()],
    ] {
        assert!(shown(&cookies, &sent(&wrong)).is_none(), "{wrong:?}");
    }
    assert!(kept(&cookies, &large(12_000), &HeaderMap::new()).is_none());
}

#[test]
fn keys_rotate_and_foreign_or_moved_cookies_are_nothing() {
    let (old, new) = (Key::generate(), Key::generate());
    let before = Cookies::new(vec![old.clone()]);
    let after = Cookies::new(vec![new.clone(), old.clone()]);
    let set = kept(&before, &session(60), &HeaderMap::new()).unwrap();
    assert!(shown(&after, &sent(&set)).is_some());
    let set = kept(&after, &session(60), &HeaderMap::new()).unwrap();
    assert!(shown(&before, &sent(&set)).is_none());
    before.set_keys(vec![old, new]);
    assert!(shown(&before, &sent(&set)).is_some());
    // The name is part of what is authenticated: a login cookie is no session.
    let (state, other) = ("AbCd-_12345", "AbCd-_12999");
    let attempt: Attempt =
        serde_json::from_str(&format!(r#"{{"state":"{state}","nonce":"n","verifier":"v"}}"#)).unwrap();
    let set = before.begin_attempt(attempt, "/".into(), &HeaderMap::new(), now());
    let moved = set[0]
        .to_str()
        .unwrap()
        .replacen("__Host-devplane-login-AbCd-_12", SESSION, 1);
    assert!(shown(&before, &sent(&[HeaderValue::from_str(&moved).unwrap()])).is_none());
    assert!(before.attempt(&sent(&set[..1]), state, now()).is_some());
    // The same first characters, but another state.
    assert!(before.attempt(&sent(&set[..1]), other, now()).is_none());
    let late = now() + SignedDuration::from_mins(10);
    assert!(before.attempt(&sent(&set[..1]), state, late).is_none());
}

#[test]
fn what_gateways_leave_for_each_other_opens_with_the_cookie_alone() {
    let (one, token) = (session(60), SecretString::from("next".to_owned()));
    let mut person = one.person.clone();
    person.groups = vec!["other".into()];
    let sealed = one.seal(&token, &person).unwrap();
    let (opened, who) = one.open(&sealed).unwrap();
    assert_eq!((opened.expose_secret(), who), ("next", person));
    let mut other = one.clone();
    other.secret = "another secret of at least 32 bytes".to_owned().into();
    assert!(other.open(&sealed).is_none());
    // The same key, but another session or another person.
    let mut other = one.clone();
    other.id = "s2".into();
    assert!(other.open(&sealed).is_none());
    let mut other = one.clone();
    other.person.identity.subject = "dev2".into();
    assert!(other.open(&sealed).is_none());
    // It is no cookie, and a cookie is none.
    let cookies = Cookies::new(vec![one.key()]);
    let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&format!("{SESSION}={sealed}")).unwrap())]);
    assert!(shown(&cookies, &headers).is_none());
    assert!(one.open("").is_none());
}

#[test]
fn many_attempts_do_not_fill_the_request_head() {
    let cookies = Cookies::new(vec![Key::generate()]);
    let cookie: Vec<String> = (0..8).map(|i| format!("__Host-devplane-login-{i}=x")).collect();
    let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&cookie.join("; ")).unwrap())]);
    let attempt: Attempt = serde_json::from_str(r#"{"state":"s","nonce":"n","verifier":"v"}"#).unwrap();
    let set = cookies.begin_attempt(attempt, "/".into(), &headers, now());
    assert_eq!(set.len(), 1 + 3);
}

proptest! {
    #[test]
    fn no_cookie_is_too_strange(value in "[ -~]{0,200}", second in "[ -~]{0,50}") {
        let cookies = Cookies::new(vec![Key::generate()]);
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(&format!("{SESSION}={value}; {SESSION}-1={second}")).unwrap());
        prop_assert!(shown(&cookies, &headers).is_none());
    }

    /// Whatever is cut, exchanged, doubled or put in another order: it is the session that was sealed, or none.
    #[test]
    fn pieces_of_cookies_are_a_session_whole_or_not_at_all(
        changes in proptest::collection::vec((0usize..5, any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let cookies = Cookies::new(vec![Key::from(&[7; 64])]);
        let set = kept(&cookies, &large(6000), &HeaderMap::new()).unwrap();
        let mut pieces: Vec<(String, String)> = set
            .iter()
            .map(|set| set.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for (kind, one, other, byte) in changes {
            if pieces.is_empty() {
                break;
            }
            let (one, other) = (one.index(pieces.len()), other.index(pieces.len()));
            match kind {
                0 => drop(pieces.remove(one)),
                1 => pieces.swap(one, other),
                2 => {
                    let value = pieces[other].1.clone();
                    pieces[one].1 = value;
                }
                3 => {
                    let double = (pieces[one].0.clone(), pieces[other].1.clone());
                    pieces.push(double);
                }
                _ => {
                    let value = &mut pieces[one].1;
                    let at = usize::from(byte) * value.len() / 256;
                    let letter = if value[at..].starts_with('A') { "B" } else { "A" };
                    value.replace_range(at..=at, letter);
                }
            }
        }
        let pairs: Vec<_> = pieces.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(&pairs.join("; ")).unwrap());
        // Of several of one name the first counts, as browsers send them.
        if let Some(session) = shown(&cookies, &headers) {
            let token = session.refresh.unwrap().token;
            let sealed = large(6000).refresh.unwrap().token;
            prop_assert_eq!(token.expose_secret(), sealed.expose_secret());
            for set in &set {
                let kept = set.to_str().unwrap().split(';').next().unwrap();
                prop_assert!(pairs.iter().any(|pair| pair == kept), "accepted without {}", &kept[..30]);
            }
        }
    }
}

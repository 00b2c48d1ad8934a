use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<CallbackUrl, InvalidCallbackUrl> {
    CallbackUrl::parse(text, Schemes::HttpToo)
}

#[test]
fn each_url_has_one_normal_form() {
    for (text, normal, host) in [
        ("HTTPS://Shop.Example", "https://shop.example/", "shop.example"),
        ("https://shop.example:443/a?b=c", "https://shop.example/a?b=c", "shop.example"),
        ("https://shop.example:/", "https://shop.example/", "shop.example"),
        ("https://shop.example:8443/", "https://shop.example:8443/", "shop.example:8443"),
        ("http://shop.example:80/", "http://shop.example/", "shop.example"),
        ("http://shop.example:443/", "http://shop.example:443/", "shop.example:443"),
        ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4", "xn--bcher-kva.example"),
        ("https://shop.example/a/../b/%2e%2e/c", "https://shop.example/c", "shop.example"),
        ("https://[2001:DB8::0:1]/", "https://[2001:db8::1]/", "[2001:db8::1]"),
        ("https://[::1]:8443/", "https://[::1]:8443/", "[::1]:8443"),
        ("http://0x7f.1/", "http://127.0.0.1/", "127.0.0.1"),
        ("http://2130706433/", "http://127.0.0.1/", "127.0.0.1"),
        ("http://127.1/", "http://127.0.0.1/", "127.0.0.1"),
        ("http://0177.0.0.01/", "http://127.0.0.1/", "127.0.0.1"),
        ("http://127.0.0.1./", "http://127.0.0.1/", "127.0.0.1"),
        ("http://127%2e0%2e0%2e1/", "http://127.0.0.1/", "127.0.0.1"),
        ("http://１２７。０。０。１/", "http://127.0.0.1/", "127.0.0.1"),
        ("https://shop.example/?mail=a@b", "https://shop.example/?mail=a@b", "shop.example"),
    ] {
        let url = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((url.as_str(), url.host()), (normal, host), "{text}");
    }
    assert_eq!(parse("https://Shop.example:443"), parse("https://shop.example/"));
}

#[test]
fn what_could_mean_two_things_is_refused() {
    use InvalidCallbackUrl::{BadPort, Fragment, NoHost, NotHttp, StrangeCharacters, TooLong, TrailingDot, UserInfo};
    let (long, longer_when_escaped) =
        (format!("https://x/{}", "a".repeat(2040)), format!("https://x/{}", "ä".repeat(800)));
    for (text, error) in [
        ("", NotHttp),
        ("shop.example", NotHttp),
        ("//shop.example/", NotHttp),
        ("ftp://shop.example/", NotHttp),
        ("file:///etc/passwd", NotHttp),
        ("gopher://127.0.0.1:6379/_", NotHttp),
        ("javascript:alert(1)", NotHttp),
        ("https:shop.example/", NotHttp),
        ("https:/shop.example/", NotHttp),
        ("https://", NoHost),
        ("https:///shop.example/", NoHost),
        ("https://?x", NoHost),
        ("https://:443/", NoHost),
        ("https://shop.example:0/", BadPort),
        ("https://shop.example:65536/", BadPort),
        ("https://shop.example:x/", BadPort),
        ("https://user@shop.example/", UserInfo),
        ("https://user:password@shop.example/", UserInfo),
        ("https://@shop.example/", UserInfo),
        ("https://:@shop.example/", UserInfo),
        ("https://shop.example@127.0.0.1/", UserInfo),
        ("https://shop.example/#", Fragment),
        ("https://shop.example/#x", Fragment),
        ("https://shop.example#@127.0.0.1/", Fragment),
        (r"https://shop.example\@127.0.0.1/", StrangeCharacters),
        (r"https:\\shop.example/", StrangeCharacters),
        ("https://shop.example/a b", StrangeCharacters),
        (" https://shop.example/", StrangeCharacters),
        ("https://shop.\texample/", StrangeCharacters),
        ("https://shop.example/\r\nX: y", StrangeCharacters),
        ("https://shop.example\0/", StrangeCharacters),
        ("https://shop.example./", TrailingDot),
        ("https://shop.example。/", TrailingDot),
        ("https://shop%40example/", NoHost),
        ("https://shop%00example/", NoHost),
        ("https://a%2fb/", NoHost),
        ("https://[fe80::1%25eth0]/", NoHost),
        ("https://[::1/", NoHost),
        ("https://256.256.256.256/", NoHost),
        ("https://1.2.3.4.5/", NoHost),
        ("https://xn--/", NoHost),
        (&long, TooLong),
        (&longer_when_escaped, TooLong),
    ] {
        assert_eq!(parse(text), Err(error), "{text}");
    }
    assert_eq!(CallbackUrl::parse("http://shop.example/", Schemes::HttpsOnly), Err(InvalidCallbackUrl::NotHttps));
}

#[test]
fn literal_addresses_are_told_from_names() {
    let address = |text| parse(text).unwrap().literal_address().map(|address| address.to_string());
    assert_eq!(address("https://0x7f.1/").as_deref(), Some("127.0.0.1"));
    assert_eq!(address("https://[::ffff:7f00:1]/").as_deref(), Some("::ffff:127.0.0.1"));
    assert_eq!(address("https://localhost/"), None);
    assert_eq!(parse("https://[::1]:8443/x?y").unwrap().host_name(), "::1");
    assert_eq!(parse("http://x/").unwrap().port(), 80);
    assert_eq!(parse("https://x:8443/").unwrap().port(), 8443);
}

#[test]
fn it_is_a_string_in_json() {
    let url = parse("http://Shop.example:8080/x?y").unwrap();
    let json = serde_json::to_string(&url).unwrap();
    assert_eq!(json, r#""http://shop.example:8080/x?y""#);
    assert_eq!(serde_json::from_str::<CallbackUrl>(&json).unwrap(), url);
    assert!(serde_json::from_str::<CallbackUrl>(r#""ftp://x/""#).is_err());
}

proptest! {
    #[test]
    fn the_normal_form_of_a_normal_form_is_itself(rest in "[!-~äß。１]{0,40}") {
        if let Ok(url) = parse(&format!("https://{rest}")) {
            prop_assert_eq!(parse(url.as_str()), Ok(url.clone()));
            prop_assert!(url.target().starts_with('/') && !url.host().is_empty() && url.port() > 0);
            prop_assert!(url.target().parse::<PathAndQuery>().is_ok());
        }
    }
}

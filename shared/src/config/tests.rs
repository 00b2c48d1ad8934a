use super::*;

#[test]
fn all_mistakes_are_told_at_once_and_no_value_is_repeated() {
    let mut settings = Settings::from_pairs([("A", "x"), ("B", "99"), ("C", " ")]);
    assert_eq!(settings.number("A", 5, 1..=9, "a"), 5);
    assert_eq!(settings.number("B", 5, 1..=9, "b"), 5);
    assert_eq!(settings.text("C", "c", "c"), "c");
    let mistakes = settings.finish().unwrap_err().0;
    assert_eq!(
        mistakes,
        ["A: must be a whole number from 1 to 9", "B: must be a whole number from 1 to 9", "C: must not be empty"]
    );
}

#[test]
fn a_secret_comes_from_its_file_and_is_never_shown() {
    let path = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
    std::fs::write(&path, "hush\n").unwrap();
    let mut settings = Settings::from_pairs([("TOKEN_FILE", path.to_str().unwrap())]);
    let secret = settings.secret("TOKEN", "a token").unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(secret.expose(), "hush");
    assert_eq!(format!("{secret:?} {secret}"), "*** ***");
}

#[test]
fn a_mistake_names_the_variable_that_was_set() {
    use std::os::unix::ffi::OsStringExt;

    let folder = std::env::temp_dir().join(format!("settings-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, binary, wrong) = (write("empty", b"\n"), write("binary", b"\xff"), write("wrong", b"wrong"));
    let huge = write("huge", &vec![b'x'; 2_000_000]);
    for (file, told) in [
        ("/nonexistent/secret", "cannot read /nonexistent/secret: No such file"),
        (folder.to_str().unwrap(), "is a directory"),
        (&empty, "is empty"),
        (&binary, "is no UTF-8 text"),
        (&huge, "is larger than 1 MiB"),
        ("/dev/zero", "is larger than 1 MiB"),
        (&wrong, "does not fit"),
        ("not/there", &format!("{}/not/there", std::env::current_dir().unwrap().display())),
    ] {
        let mut settings = Settings::from_pairs([("DATABASE_URL_FILE", file)]);
        if settings.secret("DATABASE_URL", "a secret").is_some() {
            // As by who parses what was in the file.
            settings.mistake("DATABASE_URL", "does not fit");
        }
        let mistakes = settings.finish().unwrap_err().0;
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].starts_with("DATABASE_URL_FILE: ") && mistakes[0].contains(told), "{mistakes:?}");
    }
    let mut settings = Settings::from_pairs([("TLS_FILE", folder.to_str().unwrap()), ("NO_FILE", "/nonexistent")]);
    settings.file("TLS_FILE", "a file");
    settings.file("NO_FILE", "a file");
    let mistakes = settings.finish().unwrap_err().0;
    assert!(mistakes[0].starts_with("TLS_FILE: ") && mistakes[0].contains("is a directory"), "{mistakes:?}");
    assert!(mistakes[1].starts_with("NO_FILE: cannot read /nonexistent"), "{mistakes:?}");
    std::fs::remove_dir_all(folder).unwrap();

    let no_text = || OsString::from_vec(vec![0xff]);
    let variables = [("PORT".into(), no_text()), ("TOKEN_FILE".into(), no_text()), ("OTHERS".into(), no_text())];
    let mut settings = Settings::from_variables(variables).with_defaults(&[("PORT", "1")]);
    settings.number("PORT", 5, 1..=9, "a port");
    settings.secret("TOKEN", "a token");
    assert_eq!(settings.finish().unwrap_err().0, ["PORT: must be UTF-8 text", "TOKEN_FILE: must be UTF-8 text"]);
}

#[test]
fn an_empty_file_name_counts_as_unset() {
    let mut settings = Settings::from_pairs([("TOKEN", "hush"), ("TOKEN_FILE", "")]);
    assert_eq!(settings.secret("TOKEN", "a token").unwrap().expose(), "hush");
    settings.finish().unwrap();
}

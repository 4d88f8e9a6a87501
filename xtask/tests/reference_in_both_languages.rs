//! The reference of libqtls is not made where the Korean texts and the header are not about the same.

use xtask::header;
use xtask::reference::{Header, KOREAN_CRYPTO, KOREAN_QTLS, Texts, in_korean};

const TEXTS: &str = KOREAN_QTLS.content;

fn refused(texts: &str) -> String {
    let texts = Texts { content: texts, ..KOREAN_QTLS };
    let error = in_korean(&texts, &KOREAN_CRYPTO).expect_err("it is refused");
    assert_eq!(error.place(), Some("crates/qtls-ffi/api.ko.md"));
    error.message().to_owned()
}

#[test]
fn both_are_about_the_same() {
    let headers = [header::qtls(), header::crypto()].map(|header| Header::parse(&header));
    let korean = in_korean(&KOREAN_QTLS, &KOREAN_CRYPTO).unwrap();
    let functions: Vec<_> =
        headers.iter().flat_map(|header| &header.groups).flat_map(|group| &group.functions).collect();
    let golden = include_str!("../../crates/qtls-ffi/symbols.txt");
    let mut names: Vec<_> = functions.iter().map(|function| function.name.as_str()).collect();
    for function in &functions {
        assert!(korean.contains(&format!("### `{}`\n\n```c\n{}\n```\n", function.name, function.declaration)));
        // Whatever can fail says how.
        let fails = function.declaration.contains("qtls_error **error");
        assert!(!fails || function.doc.returns.ends_with('.'), "{}", function.name);
    }
    names.sort_unstable();
    assert_eq!(names, golden.lines().collect::<Vec<_>>());
}

#[test]
fn the_texts_of_the_second_header_are_held_to_it_too() {
    let without = KOREAN_CRYPTO.content.replacen("\n# qtls_ml_dsa_sign\n", "\n# qtls_ml_dsa_sing\n", 1);
    let error = in_korean(&KOREAN_QTLS, &Texts { content: &without, ..KOREAN_CRYPTO }).expect_err("it is refused");
    assert_eq!(
        error.to_string().lines().next(),
        Some("crates/qtls-ffi/crypto.ko.md: qtls_ml_dsa_sign has no Korean text")
    );
}

#[test]
fn what_has_no_korean_text_is_named() {
    let without = |what: &str, with: &str| TEXTS.replacen(what, with, 1);
    assert_eq!(refused(&without("\n# qtls_conn_feed\n", "\n# qtls_conn_fed\n")), "qtls_conn_feed has no Korean text");
    assert_eq!(
        refused(&without("@value QTLS_E_ALERT ", "@value QTLS_E_FIRE ")),
        "qtls_status: the header has no value QTLS_E_FIRE there"
    );
    assert_eq!(
        refused(&without("@param protocol_len ", "")),
        "qtls_config_add_alpn: the parameter protocol_len has no Korean text"
    );
    assert_eq!(
        refused(&without("@retval QTLS_E_NOT_FROZEN 설정이 동결되지 않았습니다.\n", "")),
        "qtls_conn_new_client: the error QTLS_E_NOT_FROZEN has no Korean text"
    );
    assert_eq!(
        refused(&without("@return 언제까지나 유효한 텍스트.\n", "")),
        "qtls_version: @return stands in one language only"
    );
    assert_eq!(refused(&without("\n# group Errors\n", "\n# group Mistakes\n")), "group Errors has no Korean text");
    assert_eq!(refused(&without("\n# shared\n", "\n# common\n")), "shared has no Korean text");
}

#[test]
fn korean_texts_of_what_is_gone_are_named() {
    let more = format!("{TEXTS}\n# qtls_conn_dance\n춤.\n");
    assert_eq!(refused(&more), "the header has no qtls_conn_dance any more");
    let twice = format!("{TEXTS}\n# qtls_version\n두 번.\n");
    assert_eq!(refused(&twice), "qtls_version stands there twice");
    let parameter = TEXTS.replacen("@param protocol ", "@param colour 색.\n@param protocol ", 1);
    assert_eq!(refused(&parameter), "qtls_config_add_alpn: the header has no parameter colour there");
}

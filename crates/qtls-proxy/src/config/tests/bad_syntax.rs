//! A file that isn't JSON with comments gets one message with line, column and remedy.

use super::*;

#[test]
fn broken_json_is_refused_with_place_and_remedy() {
    for (text, expected) in [
        (
            "// only a comment\n",
            "server.json: the file has no configuration in it\n  \
             hint: the smallest configuration is {}: every key has a default",
        ),
        ("[1]", "server.json:1:1: a configuration is one object\n  hint: put it between { and }"),
        (
            "{\"server\": {\"listen_port\": 1,}}",
            "server.json:1:29: a comma before a closing bracket\n  hint: remove the comma",
        ),
        (
            "{\"algorithms\": {\"kem\": [\"x25519\",]}}",
            "server.json:1:33: a comma before a closing bracket\n  hint: remove the comma",
        ),
        (
            "{\n  \"server\": {\"listen_port\": 1}\n  \"tls\": {}}",
            "server.json:2:31: a comma is missing here\n  hint: add a comma between the two values",
        ),
        (
            "{\"algorithms\": {\"kem\": [\"x25519\" \"p-384\"]}}",
            "server.json:1:33: a comma is missing here\n  hint: add a comma between the two values",
        ),
        (
            "{\"server\": {\"listen_port\": 08443}}",
            "server.json:1:29: a number that starts with 0\n  hint: write it without the zeros in front",
        ),
        ("{\"server\": ,}", "server.json:1:12: a comma where a value is expected\n  hint: remove the comma"),
        ("{\"server\": {}, , \"tls\": {}}", "server.json:1:16: this is not a key\n  hint: write \"key\": value"),
        ("{\"server\" {}}", "server.json:1:11: a colon is missing after a key\n  hint: write \"key\": value"),
        ("{\"server\":: 1}", "server.json:1:11: a colon where a value is expected\n  hint: write \"key\": value"),
        ("{\"server\":", "server.json:1:11: a key has no value\n  hint: write \"key\": value"),
        ("{\n  server: {}}", "server.json:2:3: a key without quotes\n  hint: put keys in double quotes"),
        ("{\n  'server': {}}", "server.json:2:3: a string in single quotes\n  hint: use double quotes"),
        (
            "{\"logging\": {\"file\": “x”}}",
            "server.json:1:22: quotes that JSON does not have\n  hint: use the plain double quote \"",
        ),
        (
            "{\"server\": }",
            "server.json:1:12: a closing bracket that does not fit here\n  \
             hint: remove it, or add the value or the bracket that is missing before it",
        ),
        (
            "{\"algorithms\": {\"kem\": [\"x25519\"}}",
            "server.json:1:33: a closing bracket that does not fit here\n  \
             hint: remove it, or add the value or the bracket that is missing before it",
        ),
        (
            "{\n  \"server\": {\n",
            "server.json:2:13: the object that starts here has no end\n  hint: add its closing brace }",
        ),
        ("{\"a\": [", "server.json:1:7: the list that starts here has no end\n  hint: add its closing bracket ]"),
        (
            "{\n/* never closed \n}",
            "server.json:2:1: the comment that starts here has no end\n  hint: add its closing */",
        ),
        (
            "{}\n}",
            "server.json:2:1: there is more after the end of the configuration\n  \
             hint: remove it, or look for a brace that closes too early",
        ),
        (
            "{\n  # a comment\n  \"server\": {}\n}",
            "server.json:2:3: a comment that starts with #\n  \
             hint: comments start with // or stand between /* and */",
        ),
        (
            "{\"tls\": {\"hybrid_mode\": True}}",
            "server.json:1:25: a word without quotes\n  \
             hint: put strings in double quotes; without quotes are numbers, true, false and null",
        ),
        (
            "{\"server\": {\"listen_port\": 0x10}}",
            "server.json:1:28: this is not a number\n  hint: write numbers in decimal digits",
        ),
        (
            "{\"server\": {\"listen_port\": -}}",
            "server.json:1:29: this is not a number\n  hint: write numbers in decimal digits",
        ),
        (
            "{\"server\" = 5}",
            "server.json:1:11: this is not JSON\n  hint: the configuration is JSON with // and /* */ comments",
        ),
        (
            "{\"logging\": {\n\"file\": \"/var/log/x,\n\"console\": true}}",
            "server.json:2:9: the string that starts here does not end on its line\n  \
             hint: add its closing double quote; write a line break as \\n",
        ),
        (
            "{\"logging\": {\"file\": \"a\tb\"}}",
            "server.json:1:24: a control character in a string\n  \
             hint: write a tab as \\t, others as \\u and four digits",
        ),
        (
            "{\"logging\": {\"file\": \"unclosed}}",
            "server.json:1:22: the string that starts here has no end\n  hint: add its closing double quote",
        ),
        (
            "{\"logging\": {\"file\": \"C:\\log\"}}",
            "server.json:1:25: an escape that JSON does not have\n  hint: write a backslash in a string as \\\\",
        ),
        (
            "{\"server\": {\"listen_port\": 1,\n\"listen_port\": 2}}",
            "server.json:2:1: server.listen_port: the key is set twice, first at server.json:1:13\n  \
             hint: remove one of the two",
        ),
    ] {
        assert_eq!(server_error(text), expected, "{text}");
    }
}

#[test]
fn an_empty_file_is_no_configuration() {
    assert_eq!(
        client_error(""),
        "client.json: the file has no configuration in it\n  \
         hint: the smallest configuration is {}: every key has a default"
    );
}

#[test]
fn brackets_without_end_are_an_error_and_not_a_stack_overflow() {
    assert_eq!(
        server_error(&"[".repeat(1_000_000)),
        "server.json:1:513: too many brackets inside one another\n  hint: close some of them"
    );
}

#[test]
fn a_file_that_was_cut_off_anywhere_is_refused_with_its_place() {
    let whole = include_str!("specification_server.json").trim_end();
    for end in 0..whole.len() {
        let error = tree::parse_file(&whole[..end], "server.json").expect_err(&whole[..end]);
        assert!(error.place().unwrap().starts_with("server.json") && error.hint_text().is_some(), "{end}: {error}");
    }
    tree::parse_file(whole, "server.json").unwrap();
}

#[test]
fn comments_are_allowed_wherever_space_is() {
    let text = "// one\n{ /* \"two */ \"server\": // three\n { \"listen_port\" /* four */ : 1 } }\n// five";
    assert_eq!(server(text).unwrap().value.server.listen_port, 1);
}

#[test]
fn a_byte_order_mark_and_foreign_line_ends_do_not_move_the_place() {
    let expected = "server.json:3:3: sever: unknown key\n  hint: did you mean \"server\"?";
    for text in ["\u{feff}// é\n{\n  \"sever\": {}}", "// é\r\n{\r\n  \"sever\": {}}", "// é\r{\r  \"sever\": {}}"] {
        assert_eq!(server_error(text), expected, "{text:?}");
    }
    assert_eq!(
        server_error("\u{feff}{\"sever\": {}}"),
        "server.json:1:2: sever: unknown key\n  hint: did you mean \"server\"?"
    );
}

#[test]
fn columns_count_characters_and_not_bytes() {
    assert_eq!(
        server_error("{/* 한국어 */ \"sever\": {}}"),
        "server.json:1:12: sever: unknown key\n  hint: did you mean \"server\"?"
    );
}

#[test]
fn a_file_that_is_not_utf8_names_the_line() {
    let error = with_file("server.json", b"{\n\"server\": {\n\xff", environment(&[]), load_server).unwrap_err();
    assert_eq!(error.to_string(), "server.json:3: the file is not UTF-8 text\n  hint: save it in the encoding UTF-8");
}

#[test]
fn a_file_that_cannot_be_read_is_named_as_the_user_named_it() {
    let missing = Source { file: Some("no/such/server.json".into()), ..environment(&[]) };
    assert_eq!(
        load_server(&missing).unwrap_err().to_string(),
        "no/such/server.json: there is no such file\n  hint: check the path"
    );
    let directory = TempDir::new().unwrap();
    let source = Source { file: Some(directory.path().to_owned()), ..environment(&[]) };
    assert_eq!(
        load_server(&source).unwrap_err().to_string(),
        format!("{}: this is a directory, not a file\n  hint: name the file in it", directory.path().display())
    );
}

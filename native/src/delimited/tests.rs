use super::*;
use crate::msgpack::{Token, read_token};

fn show(parser: &Delimited, text: &str) -> String {
    let mut events = Events::default();
    if let Err(why) = parser.session().parse(text.as_bytes(), &mut events) {
        return why.reason().to_owned();
    }
    let item = events.items[0];
    let fields = &events.fields[item.start..item.end];
    let mut pos = 0;
    let mut shown = Vec::new();
    let mut text = |fields: &[u8]| match read_token(fields, &mut pos).unwrap() {
        Token::Str(text) => String::from_utf8_lossy(text).into_owned(),
        Token::Nil => "nil".to_owned(),
        other => format!("{other:?}"),
    };
    for _ in 0..item.pairs {
        let key = text(fields);
        shown.push(format!("{key}={}", text(fields)));
    }
    assert_eq!(pos, fields.len());
    let time = item.time_ns.map(|time| format!("@{} ", time / 1_000_000_000)).unwrap_or_default();
    time + &shown.join("|")
}

fn keys(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn text_delimiter(text: &str) -> Delimiter {
    Delimiter::new(text.as_bytes()).unwrap()
}

#[test]
fn csv_as_ruby_reads_it() {
    for (delimiter, text, wanted) in [
        (",", "1,2,3", "a=1|b=2|c=3"),
        (",", "1,2,3,4", "a=1|b=2|c=3"),
        (",", "1", "a=1|b=nil|c=nil"),
        (",", "", "unmatched"),
        (",", "\n1,2", "a=nil|b=nil|c=nil"),
        (",", ",,", "a=nil|b=nil|c=nil"),
        (",", "\"\",x,", "a=|b=x|c=nil"),
        (",", "\"a,b\",\"c\"\"d\",\"\"\"\"", "a=a,b|b=c\"d|c=\""),
        (",", "\"two\nlines\",x\ny,z", "a=two\nlines|b=x|c=nil"),
        (",", "1,2\r\n3,4", "a=1|b=2|c=nil"),
        (",", "1,2\r3,4", "a=1|b=2|c=nil"),
        (",", "1\n2\r3", "a=1|b=nil|c=nil"),
        (",", "1,2,3,\"bad", "malformed"),
        (",", "\"unclosed,b", "malformed"),
        (",", "a\"b,c", "malformed"),
        (",", " \"b\",c", "malformed"),
        (",", "\"b\" ,c", "malformed"),
        (",", "x\ry\n", "a=x|b=nil|c=nil"),
        (",", "x\r\ny\r,", "a=x|b=nil|c=nil"),
        (",", "x\ry", "a=x|b=nil|c=nil"),
        (";", "1;\"a;b\";3,4", "a=1|b=a;b|c=3,4"),
        ("||", "1||2|x||\"3\"", "a=1|b=2|x|c=3"),
        (" ", "1  2", "a=1|b=nil|c=2"),
        (",", "é,\"ü\"", "a=é|b=ü|c=nil"),
    ] {
        let layout = Layout::Csv { delimiter: delimiter.into() };
        let parser = Delimited::new(layout, &keys("a,b,c"), &ParseOptions::default()).unwrap();
        assert_eq!(show(&parser, text), wanted, "{delimiter} {text:?}");
    }
}

#[test]
fn csv_by_the_fast_engine() {
    for (text, wanted) in [
        ("1,2,3", "a=1|b=2|c=3"),
        ("1,2", "a=1|b=2"),
        ("1,,3,4", "a=1|b=nil|c=3"),
        ("", ""),
        ("\"x\",2\n", "a=x|b=2"),
        ("\"x,y\",2", "a=x,y|b=2"),
        ("\"x,y,z", "a=x,y,"),
        ("\"", "a="),
        ("\"a\"\"b\",2", "a=a\"b|b=2"),
        ("a\"b\"c,2", "a=a\"b\"c|b=2"),
        ("a\"b,2", "a=a\"b|b=2"),
    ] {
        let layout = Layout::CsvFast { delimiter: text_delimiter(",") };
        let parser = Delimited::new(layout, &keys("a,b,c"), &ParseOptions::default()).unwrap();
        assert_eq!(show(&parser, text), wanted, "{text:?}");
    }
}

#[test]
fn tsv_as_ruby_splits() {
    for (delimiter, text, wanted) in [
        ("\t", "1\t2\t3\t4", "a=1|b=2|c=3\t4"),
        ("\t", "1", "a=1|b=nil|c=nil"),
        ("\t", "", "a=nil|b=nil|c=nil"),
        ("\t", "\t", "a=|b=|c=nil"),
        (" ", "  1  2 3  4 ", "a=1|b=2|c=3  4 "),
        ("::", "1::2:3::", "a=1|b=2:3|c="),
    ] {
        let layout = Layout::Plain { delimiter: text_delimiter(delimiter) };
        let parser = Delimited::new(layout, &keys("a,b,c"), &ParseOptions::default()).unwrap();
        assert_eq!(show(&parser, text), wanted, "{text:?}");
    }
    let layout = Layout::Plain { delimiter: text_delimiter("\t") };
    let parser = Delimited::new(layout, &keys("a,b,a"), &ParseOptions::default()).unwrap();
    assert_eq!(show(&parser, "1\t2\t3"), "a=3|b=2");
}

fn labeled(delimiter: Between, label: &str) -> Delimited {
    let options = ParseOptions { time_key: Some("time".into()), ..ParseOptions::default() };
    let label = text_delimiter(label);
    Delimited::new(Layout::Labeled { delimiter, label, bare: false }, &[], &options).unwrap()
}

#[test]
fn ltsv_fields_name_themselves() {
    let parser = labeled(Between::Text(text_delimiter("\t")), ":");
    for (text, wanted) in [
        ("a:1\tb:2", "a=1|b=2"),
        ("a:1:2\tb:\t:x\tnone\t\tc:3\t", "a=1:2|b=|=x|c=3"),
        ("", ""),
        ("a:1\tb:2\ta:3", "a=3|b=2"),
        ("time:2023-01-02 03:04:05 +0000\ta:1", "@1672628645 a=1"),
        ("time:never\ta:1", "invalid_time"),
    ] {
        assert_eq!(show(&parser, text), wanted, "{text:?}");
    }
    let many: Vec<String> = (0..100).chain(0..100).map(|number| format!("k{number}:{number}")).collect();
    assert_eq!(show(&parser, &many.join("\t")).split('|').count(), 100);
}

#[test]
fn ltsv_delimiters() {
    let parser = labeled(Between::Text(text_delimiter(",")), "=");
    assert_eq!(show(&parser, "a=1,b=x=y"), "a=1|b=x=y");
    let parser = labeled(Between::Text(text_delimiter(" ")), "=");
    assert_eq!(show(&parser, "  a=1   b=2 "), "a=1|b=2");
    let pattern =
        |source| Between::Pattern(extract::compile(source, ruby_regexp::Flags::default()).unwrap().0);
    assert_eq!(show(&labeled(pattern("[,; ]+"), "="), "a=1,; b=2;c=3"), "a=1|b=2|c=3");
    assert_eq!(show(&labeled(pattern("(?=[a-z]=)"), "="), "a=1b=2c=é"), "a=1|b=2|c=é");
    assert_eq!(show(&labeled(pattern("x"), "="), "a=é"), "a=é");
}

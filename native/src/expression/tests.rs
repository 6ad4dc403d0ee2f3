use super::*;
use crate::fields::Fields;

fn refused(text: &str) -> Refused {
    let mut fields = Fields::default();
    let mut context = Context { fields: &mut fields, hostname: "h".to_owned(), patterns: 0, clocks: 0 };
    parse(text, &mut context).err().expect(text)
}

fn evaluated(text: &str) -> Result<Vec<u8>, Raised> {
    let mut fields = Fields::default();
    let mut context = Context { fields: &mut fields, hostname: "h".to_owned(), patterns: 0, clocks: 0 };
    let node = parse(text, &mut context).expect(text);
    let (mut found, mut memory) = (Found::default(), Memory::default());
    let entry = b"\x92\x01\x82\xa1a\xa3xyz\xa1n\x05";
    let entry = fields.read(entry, &mut 0, &mut found).expect("well made");
    let mut env = Env {
        tag: "a.b",
        time_ns: 0,
        body: entry.body,
        pairs: entry.pairs,
        found: &found,
        memory: &mut memory,
    };
    let value = node.eval(&mut env)?;
    let mut out = Vec::new();
    value.write_to_s(&mut env, &mut out)?;
    Ok(out)
}

#[test]
fn refusals_say_where_and_what_instead() {
    for (text, position, words) in [
        ("record[\"a\"].crypt(\"x\")", 12, "elasticsearch_genid"),
        ("record[\"ä\"].map { |x| x }", 12, "blocks cannot run"),
        ("record.each do |k, v| end", 7, "blocks cannot run"),
        ("record[\"a\"] = 1", 12, "set fields by lines of <record>"),
        ("record.delete(\"a\")", 7, "remove_keys"),
        ("record[\"a\"].strip!", 12, "write `strip`"),
        ("record[\"a\"].downcas", 12, "did you mean downcase?"),
        ("Time.parse(record[\"t\"])", 0, "time_format"),
        ("SecureRandom.uuid", 0, "elasticsearch_genid"),
        ("URI.parse(x).host", 0, "[/regexp/, 1]"),
        ("foo + 1", 0, "foo stands for nothing"),
        ("1 +", 3, "the end"),
        ("(1", 2, "expected `)`"),
        ("\"a", 1, "no end"),
        ("/a(/", 0, "invalid regexp"),
        ("{a: 1}", 1, "\"a\" =>"),
        (":a", 0, "symbols"),
        ("$1", 0, "[/regexp/, 1]"),
        ("a; b", 0, "stands for nothing"),
        ("1; 2", 2, "one expression"),
        ("x.gsub(/a/) { 1 }", 0, "x stands for nothing"),
        ("tag.gsub(/a/)", 4, "takes 2 arguments"),
        ("tag.gsub(/a/, \"b\") { 1 }", 4, "cannot run"),
        ("2 ** 3", 2, "powers"),
        ("`ls`", 0, "expected a value"),
        ("ENV[tag]", 0, "name of a variable"),
        ("time.strftime(tag)", 13, "one format"),
        ("/#{tag}/", 1, "beforehand"),
    ] {
        let why = refused(text);
        assert!(why.message.contains(words), "{text}: {why}");
        assert_eq!(why.position, position, "{text}: {why}");
    }
}

#[test]
fn what_is_nested_too_deeply_or_grows_too_large_ends() {
    assert!(refused(&"(".repeat(10_000)).message.contains("within each other"));
    assert!(refused(&"!".repeat(10_000)).message.contains("within each other"));
    assert!(refused(&"[".repeat(10_000)).message.contains("within each other"));
    assert!(refused(&format!("tag{}", ".strip".repeat(10_000))).message.contains("calls"));
    assert!(refused(&"1 ? ".repeat(9_000)).message.contains("within each other"));
    assert!(refused(&" ".repeat(70_000)).message.contains("65536"));
    let raised = evaluated("(\"x\" * 16000000 + \"y\" * 16000000) * 100").expect_err("too large");
    assert!(raised.0.contains("NoMemoryError"), "{raised:?}");
    let raised = evaluated("\"x\".ljust(999999999999)").expect_err("too large");
    assert!(raised.0.contains("NoMemoryError"), "{raised:?}");
}

#[test]
fn a_field_is_found_by_its_number() {
    assert_eq!(evaluated("record[\"a\"] + \"-\" + (record[\"n\"] + 1).to_s"), Ok(b"xyz-6".to_vec()));
    assert_eq!(evaluated("record[\"no\"].to_s"), Ok(vec![]));
    let raised = evaluated("record[\"no\"].upcase").expect_err("nil has no upcase");
    assert_eq!(raised.0, "NoMethodError: undefined method `upcase' for nil:NilClass");
}

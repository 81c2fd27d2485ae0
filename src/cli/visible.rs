//! Makes text from outside safe for a terminal: control characters, and those that reorder or hide text, are shown as
//! escapes; secrets are marked; very long text is cut.
//!
//! Names, labels, messages and addresses are a server's, lines of output a child's. Each goes through here once, where
//! it is written.

use crate::secret;
use serde_json::Value;
use std::borrow::Cow;
use std::fmt::Write as _;

/// The longest text of one message, hint or line, in characters.
pub(super) const LONGEST: usize = 8 * 1024 + 256;
/// Stands where something was cut.
const CUT: &str = "[...]";

/// One line: nothing in it begins another one. A tab counts as a control character.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) || matches!(c, '\n' | '\t'))
}

/// Text of several lines.
pub(super) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// The text of a result, no line of which is longer than a message.
pub(super) fn result(text: &str) -> String {
    let cut: Vec<Cow<'_, str>> = text.split('\n').map(|line| shortened(line, LONGEST)).collect();
    lines(&cut.join("\n")).into_owned()
}

/// A JSON document that is a line of the log, no text of which is longer than a message.
pub(super) fn event(text: &str) -> String {
    fn cut(value: &mut Value) {
        match value {
            Value::String(text) => *text = shortened(text, LONGEST).into_owned(),
            Value::Array(list) => list.iter_mut().for_each(cut),
            Value::Object(fields) => fields.values_mut().for_each(cut),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    if text.len() > LONGEST
        && let Ok(mut event) = serde_json::from_str::<Value>(text)
    {
        cut(&mut event);
        return json(&format!("{event}\n")).into_owned();
    }
    json(text).into_owned()
}

/// A JSON document, in which the serializer has escaped the control characters of ASCII. The others mean the same there
/// as their escapes.
pub(super) fn json(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// A message about what went wrong, or an event of the log, of one line or several, with every secret marked: ours, and
/// what has the form of one. What follows its first line is indented, so that no server's text looks like ours.
pub(super) fn message(text: &str) -> String {
    let text = shortened(text.trim_end(), LONGEST);
    let text = secret::scrub(&text);
    lines(&secret::mask(&text)).replace('\n', "\n  ")
}

/// The same for JSON, which escapes by itself.
pub(super) fn marked(text: &str) -> String {
    let text = shortened(text, LONGEST);
    secret::mask(&secret::scrub(&text)).into_owned()
}

/// `text`, or its first `most` characters.
pub(super) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}{CUT}", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

fn escaped(text: &str, is_shown: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_shown) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        let number = u32::from(c);
        // Writing to a string cannot fail.
        let _ = match c {
            '\n' if is_shown(c) => write!(escaped, "\\n"),
            '\t' if is_shown(c) => write!(escaped, "\\t"),
            c if !is_shown(c) => write!(escaped, "{c}"),
            _ if number <= 0xff => write!(escaped, "\\x{number:02x}"),
            _ => write!(escaped, "\\u{{{number:x}}}"),
        };
    }
    Cow::Owned(escaped)
}

/// Whether a terminal obeys it, reorders text by it, or shows nothing for it.
fn is_hidden(c: char) -> bool {
    let is_invisible = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}');
    is_invisible || (c.is_control() && c != '\n' && c != '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_or_hide_is_shown() {
        assert_eq!(line("a\x1b[2Jb\r\u{9b}c\x7f"), "a\\x1b[2Jb\\x0d\\x9bc\\x7f");
        assert_eq!(line("one\ntwo\tthree"), "one\\ntwo\\tthree");
        assert_eq!(lines("one\ntwo\tthree\x07"), "one\ntwo\tthree\\x07");
        assert_eq!(
            line("a\u{202e}b\u{200b}c\u{feff}d\u{e0041}"),
            "a\\u{202e}b\\u{200b}c\\u{feff}d\\u{e0041}"
        );
        assert!(matches!(line("plain: é ü 日本 🦀"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let text = "a\x1b\u{9b}\u{202e}\u{2028}\u{e0041}\x7f\"\\";
        let written = serde_json::json!({ "a": text }).to_string();
        let shown = json(&written);
        assert!(shown.chars().all(|c| (' '..='~').contains(&c)), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["a"], text);
    }

    #[test]
    fn a_message_cannot_look_like_another_line_of_ours_and_shows_no_secret() {
        secret::remember("canary-of-visible");
        let said = "bad answer\nhint: run this\x1b[1m canary-of-visible ghp_0123456789abcdef";
        assert_eq!(message(said), "bad answer\n  hint: run this\\x1b[1m [secret] [secret]");
        let long = message(&"x".repeat(LONGEST + 300_000));
        assert_eq!(long.len(), LONGEST + CUT.len());
    }

    #[test]
    fn a_line_of_a_result_or_of_the_log_is_cut_and_the_others_stay() {
        let long = "x".repeat(300_000);
        let shown = result(&format!("short\n{long}\nshort\n"));
        let lengths: Vec<usize> = shown.split('\n').map(str::len).collect();
        assert_eq!(lengths, [5, LONGEST + CUT.len(), 5, 0]);
        let shown = event(&format!("{}\n", serde_json::json!({"level": "WARN", "fields": {"name": long}})));
        assert_eq!(shown.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read["level"], "WARN");
        assert_eq!(read["fields"]["name"].as_str().unwrap().len(), LONGEST + CUT.len());
        assert_eq!(event("{\"a\":1}\n"), "{\"a\":1}\n");
    }
}

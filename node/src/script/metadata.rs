//! The first line of a script or a library: `#!lua flags=no-writes`, `#!lua name=mylib`.

use super::flags::ScriptFlags;

/// The first line and what follows it, the line break first, so that lines keep their numbers.
/// `None`: there is no such line, or it does not end.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    text.starts_with(b"#!").then_some(())?;
    Some(text.split_at(text.iter().position(|&byte| byte == b'\n')?))
}

/// The words of the line, quotes undone. `None`: a quote does not end.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut bytes = line.iter().copied().peekable();
    while let Some(&next) = bytes.peek() {
        if next.is_ascii_whitespace() {
            bytes.next();
            continue;
        }
        let mut word = Vec::new();
        while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
            if byte != b'"' && byte != b'\'' {
                word.push(byte);
                continue;
            }
            loop {
                match bytes.next()? {
                    quote if quote == byte => break,
                    b'\\' => word.push(bytes.next()?),
                    other => word.push(other),
                }
            }
        }
        words.push(word);
    }
    Some(words)
}

/// What a script's first line says: its flags, `None` if it has no such line, and its code.
pub(super) fn of_script(text: &[u8]) -> Result<(Option<ScriptFlags>, &[u8]), String> {
    if !text.starts_with(b"#!") {
        return Ok((None, text));
    }
    let (line, code) = split(text).ok_or("Invalid script shebang")?;
    let words = words(line).filter(|words| !words.is_empty());
    let words = words.ok_or("Invalid engine in script shebang")?;
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if words[0] != b"#!lua" {
        return Err(format!("Unexpected engine in script shebang: {}", lossy(&words[0])));
    }
    let mut flags = ScriptFlags::default();
    for word in &words[1..] {
        let Some(names) = word.strip_prefix(b"flags=") else {
            return Err(format!("Unknown lua shebang option: {}", lossy(word)));
        };
        for name in names.split(|&byte| byte == b',').filter(|_| !names.is_empty()) {
            let unknown = || format!("Unexpected flag in script shebang: {}", lossy(name));
            flags = flags.and(ScriptFlags::named(name).ok_or_else(unknown)?);
        }
    }
    Ok((Some(flags), code))
}

/// What a library's first line says: its name, and its code.
pub(super) fn of_library(text: &[u8]) -> Result<(String, &[u8]), String> {
    if !text.starts_with(b"#!") {
        return Err("Missing library metadata".to_owned());
    }
    let (line, code) = split(text).ok_or("Invalid library metadata")?;
    let words = words(line).filter(|words| !words.is_empty()).ok_or("Invalid library metadata")?;
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut name = None;
    for word in &words[1..] {
        match word.get(..5).filter(|start| start.eq_ignore_ascii_case(b"name=")) {
            Some(_) if name.is_some() => {
                return Err(
                    "Invalid metadata value, name argument was given multiple times".to_owned()
                );
            }
            Some(_) => name = Some(lossy(&word[5..])),
            None => return Err(format!("Invalid metadata value given: {}", lossy(word))),
        }
    }
    let name = name.ok_or("Library name was not given")?;
    check_name(&name)?;
    let engine = lossy(&words[0][2..]);
    if !engine.eq_ignore_ascii_case("lua") {
        return Err(format!("Engine '{engine}' not found"));
    }
    Ok((name, code))
}

/// Whether a library or a function may have this name.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if good {
        return Ok(());
    }
    Err("Library names can only contain letters, numbers, or underscores(_) and must be at least \
         one character long"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_a_script_is() {
        assert_eq!(of_script(b"return 1"), Ok((None, &b"return 1"[..])));
        let (flags, code) = of_script(b"#!lua flags=no-writes,allow-oom\nreturn 1").unwrap();
        let names: Vec<_> = flags.unwrap_or_default().names().collect();
        assert_eq!((names, code), (vec!["no-writes", "allow-oom"], &b"\nreturn 1"[..]));
        assert_eq!(
            of_script(b"#!lua flags=\nx").map(|(flags, _)| flags),
            Ok(Some(ScriptFlags::default()))
        );
        for (bad, why) in [
            (&b"#!lua"[..], "Invalid script shebang"),
            (b"#!not-lua\nx", "Unexpected engine in script shebang: #!not-lua"),
            (b"#!lua badger=data\nx", "Unknown lua shebang option: badger=data"),
            (b"#!lua flags=what?\nx", "Unexpected flag in script shebang: what?"),
        ] {
            assert_eq!(of_script(bad), Err(why.to_owned()));
        }
    }

    #[test]
    fn a_line_names_a_library() {
        assert_eq!(of_library(b"#!LUA name=\"foo\"\nx"), Ok(("foo".to_owned(), &b"\nx"[..])));
        for (bad, why) in [
            (&b"x"[..], "Missing library metadata"),
            (b"#!lua name=x", "Invalid library metadata"),
            (b"#!lua\nx", "Library name was not given"),
            (
                b"#!lua name=a name=b\nx",
                "Invalid metadata value, name argument was given multiple times",
            ),
            (b"#!lua name=a foo=bar\nx", "Invalid metadata value given: foo=bar"),
            (b"#! name=a\nx", "Engine '' not found"),
        ] {
            assert_eq!(of_library(bad), Err(why.to_owned()));
        }
    }
}

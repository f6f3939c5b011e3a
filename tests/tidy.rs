//! The house rules, as tests: what a reader may rely on in every file without opening it.
//!
//! * Modules use only what `src/lib.rs` declares before them, so the rooms can be read bottom-up.
//! * Every file opens with its story; no function exceeds 70 lines, no file 700.
//! * Nothing is left `todo!`, no debug print is left behind.
//! * Every link from one document to another file leads somewhere.
//! * No file names a directory of somebody's machine.
//!
//! Each rule is a function from text to complaints, tried on small texts at the foot of this file,
//! and applied above that to the repository. The functions look for tokens in text whose comments
//! and literals are blanked out ([`code_only`]): no parser, so no rule here can be subtle.

use std::fs;
use std::path::{Path, PathBuf};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 700;
/// Larger files are data, not text that somebody wrote.
const TEXT_BYTES_MAX: u64 = 1 << 20;

const MACROS_BANNED: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Where a path starts that exists on one machine only. In pieces, as this file is read too.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("../sha", "red"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Use", "rs/"),
];

#[test]
fn modules_use_only_what_is_declared_before_them() {
    let lib = read("src/lib.rs");
    let order = declared_modules(&code_only(&lib));
    assert!(order.contains(&"types".into()), "lib.rs declares {order:?}");
    complain(rust_files(&["src"]).iter().flat_map(|(path, text)| {
        upward_uses(&order, path, &code_only(text)).into_iter().map(|it| at(path, it))
    }));
}

#[test]
fn every_file_opens_with_its_story() {
    let files = rust_files(&["src", "tests", "benches"]);
    complain(
        files.iter().filter(|(_, text)| !opens_with_story(text)).map(|(path, _)| {
            at(path, "does not open with a `//!` that says what it is for".into())
        }),
    );
}

#[test]
fn functions_and_files_are_short() {
    complain(rust_files(&["src", "tests", "benches"]).iter().flat_map(|(path, text)| {
        let long = long_functions(&code_only(text)).into_iter().chain(long_file(text));
        long.map(|it| at(path, it))
    }));
}

#[test]
fn nothing_is_left_to_do() {
    complain(rust_files(&["src", "tests", "benches"]).iter().flat_map(|(path, text)| {
        banned_macros(&code_only(text)).into_iter().map(|it| at(path, it))
    }));
}

#[test]
fn links_between_documents_lead_somewhere() {
    let files = text_files();
    let documents = files.iter().filter(|(path, _)| path.extension().is_some_and(|it| it == "md"));
    complain(documents.flat_map(|(path, text)| {
        let targets = linked_files(text).into_iter();
        let broken = targets.filter(|target| !root().join(resolve(path, target)).exists());
        broken.map(|target| at(path, format!("links to {target}, which does not exist")))
    }));
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    complain(
        text_files()
            .iter()
            .flat_map(|(path, text)| machine_paths(text).into_iter().map(|it| at(path, it))),
    );
}

// ---- The repository as text.

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of the repository that is text and not ignored by git, by its path from the root.
fn text_files() -> Vec<(PathBuf, String)> {
    let ignored: Vec<String> = read(".gitignore").lines().map(str::to_owned).collect();
    let mut files = Vec::new();
    collect(root(), &ignored, &mut files);
    assert!(files.len() > 5, "found no repository at {}", root().display());
    files.sort();
    files
}

fn collect(directory: &Path, ignored: &[String], files: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).expect("a directory of the repository") {
        let path = entry.expect("an entry of the repository").path();
        let inside = path.strip_prefix(root()).expect("below the root").to_path_buf();
        if inside.starts_with(".git") || ignored.iter().any(|rule| is_ignored(rule, &inside)) {
            continue;
        }
        let kind = fs::metadata(&path).expect("an entry of the repository");
        if kind.is_dir() {
            collect(&path, ignored, files);
        } else if kind.len() <= TEXT_BYTES_MAX
            && let Ok(text) = fs::read_to_string(&path)
        {
            files.push((inside, text));
        }
    }
}

/// The part of gitignore's rules that this repository uses: `/from-the-root`, `name`, `start*`, `*end`.
fn is_ignored(rule: &str, path: &Path) -> bool {
    let rule = rule.trim_end_matches('/');
    if let Some(anchored) = rule.strip_prefix('/') {
        return path == Path::new(anchored);
    }
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    match rule.split_once('*') {
        Some((start, end)) => name.starts_with(start) && name.ends_with(end),
        None => !rule.is_empty() && name == rule,
    }
}

fn rust_files(directories: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = text_files();
    files.retain(|(path, _)| {
        path.extension().is_some_and(|it| it == "rs")
            && directories.iter().any(|directory| path.starts_with(directory))
    });
    files
}

fn at(path: &Path, complaint: String) -> String {
    format!("{}: {complaint}", path.display())
}

/// Fails with all complaints at once, so that one run shows all there is to mend.
#[track_caller]
fn complain(complaints: impl Iterator<Item = String>) {
    let complaints: Vec<String> = complaints.collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// ---- Which module uses which.

/// The modules that `lib.rs` declares in files of their own, in order.
fn declared_modules(lib: &str) -> Vec<String> {
    let declared = words(lib).filter(|(_, word)| *word == "mod").filter_map(|(start, _)| {
        let rest = lib[start + "mod".len()..].trim_start();
        let name = leading_word(rest);
        rest[name.len()..].trim_start().starts_with(';').then(|| name.to_owned())
    });
    declared.collect()
}

/// The path of modules that a file makes: `shard`, `balances` for `src/shard/balances.rs`.
fn modules_of(path: &Path) -> Vec<String> {
    let inside = path.with_extension("");
    let names = inside.components().skip(1).map(|it| it.as_os_str().to_string_lossy().into_owned());
    names.filter(|name| name != "mod").collect()
}

/// What a file takes from the crate and may not: modules declared after its own, and names that
/// the crate's root only re-exports, for these would be a way around the order.
fn upward_uses(order: &[String], file: &Path, code: &str) -> Vec<String> {
    let modules = modules_of(file);
    let Some(own) = order.iter().position(|it| *it == modules[0]) else {
        return vec![]; // lib.rs and main.rs stand above all modules.
    };
    let mut complaints = Vec::new();
    for (line, name) in crate_uses(code, modules.len()) {
        match order.iter().position(|it| *it == name) {
            Some(rank) if rank <= own => {}
            Some(_) => complaints.push(format!(
                "line {line}: `{}` uses `{name}`, which lib.rs declares after it",
                modules[0]
            )),
            None => complaints.push(format!(
                "line {line}: uses `crate::{name}`, which is no module; name the module it is in"
            )),
        }
    }
    complaints
}

/// The first name of every path into the crate, `{groups}` included, with its line. The root is
/// also as many `super`s up as the file is deep, wherever the file's own items are (unindented).
fn crate_uses(code: &str, depth: usize) -> Vec<(usize, String)> {
    let supers = "super::".repeat(depth);
    let mut uses = Vec::new();
    for (start, word) in words(code) {
        let outermost = || code[..start].lines().last().is_some_and(|it| !it.starts_with(' '));
        let path = match word {
            "crate" => code[start + word.len()..].trim_start().strip_prefix("::"),
            "super" if outermost() => code[start..].strip_prefix(&supers),
            _ => None,
        };
        let Some(path) = path.map(str::trim_start).filter(|it| !it.starts_with("super")) else {
            continue;
        };
        let line = line_of(code, start);
        match path.strip_prefix('{') {
            Some(group) => uses.extend(group_heads(group).into_iter().map(|name| (line, name))),
            None => uses.push((line, leading_word(path).to_owned())),
        }
    }
    uses
}

/// `a` and `c` of `a::b, c::{d, e}}`: the names at the top of a group whose `{` was read.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut at_head, mut heads) = (0, true, Vec::new());
    for (place, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            c if at_head && is_word(c) => {
                heads.push(leading_word(&group[place..]).to_owned());
                at_head = false;
            }
            _ => {}
        }
    }
    heads
}

// ---- How long things are.

fn opens_with_story(text: &str) -> bool {
    text.strip_prefix("//! ").is_some_and(|story| !story.trim_start_matches(' ').starts_with('\n'))
}

fn long_file(text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > FILE_LINES_MAX).then(|| format!("has {lines} lines; {FILE_LINES_MAX} are the limit"))
}

fn long_functions(code: &str) -> Vec<String> {
    let long = functions(code).into_iter().filter(|it| it.lines > FUNCTION_LINES_MAX);
    long.map(|Function { name, line, lines }| {
        format!("line {line}: `{name}` has {lines} lines; {FUNCTION_LINES_MAX} are the limit")
    })
    .collect()
}

/// A function with a body, nested ones and those of tests included.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    /// Where its `fn` stands, from 1.
    line: usize,
    /// From the line of its `fn` to that of its last brace.
    lines: usize,
}

fn functions(code: &str) -> Vec<Function> {
    let found = words(code).filter(|(_, word)| *word == "fn").filter_map(|(start, word)| {
        let after = start + word.len();
        let name = leading_word(code[after..].trim_start());
        let body = if name.is_empty() { None } else { body(&code[after..]) }; // `fn(u8)` is a type
        body.map(|(_, end)| Function {
            name: name.to_owned(),
            line: line_of(code, start),
            lines: line_of(code, after + end) - line_of(code, start) + 1,
        })
    });
    found.collect()
}

/// The first and last brace of the body that a signature leads to; none in a trait's declaration.
/// A brace or semicolon within the signature's brackets, as in `[u8; 4]`, does not count.
fn body(signature: &str) -> Option<(usize, usize)> {
    let (mut brackets, mut braces, mut open) = (0, 0, None);
    for (place, c) in signature.char_indices() {
        match c {
            '(' | '[' if open.is_none() => brackets += 1,
            ')' | ']' if open.is_none() => brackets -= 1,
            ';' if open.is_none() && brackets == 0 => return None,
            '{' if open.is_some() || brackets == 0 => {
                open = open.or(Some(place));
                braces += 1;
            }
            '}' if open.is_some() => {
                braces -= 1;
                if braces == 0 {
                    return open.map(|open| (open, place));
                }
            }
            _ => {}
        }
    }
    None
}

// ---- What may not be written.

fn banned_macros(code: &str) -> Vec<String> {
    let called = words(code).filter(|(start, word)| {
        MACROS_BANNED.contains(word) && code[start + word.len()..].starts_with('!')
    });
    called.map(|(start, word)| format!("line {}: calls {word}!", line_of(code, start))).collect()
}

/// A path counts where it begins, so `tests/` before it makes it another one.
fn machine_paths(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for banned in MACHINE_PATHS {
        for (start, _) in text.match_indices(banned) {
            let before = text[..start].chars().next_back();
            if !before.is_some_and(|c| is_word(c) || "./-~}".contains(c)) {
                let line = line_of(text, start);
                complaints.push(format!("line {line}: names `{banned}`, which is not everywhere"));
            }
        }
    }
    complaints
}

// ---- Links.

/// The files that a Markdown text links to, as written but for `#anchors`; no addresses on the net.
fn linked_files(markdown: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let prose = without_code_spans(line);
        // [text](target "title"), also ![image](target)
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        // [label]: target
        let labelled = prose.strip_prefix('[').and_then(|it| it.split_once("]: "));
        let labelled = labelled.and_then(|(_, target)| target.split_whitespace().next());
        targets.extend(inline.chain(labelled).map(str::to_owned));
    }
    targets.retain(|target| !target.contains("://") && !target.starts_with("mailto:"));
    let files = targets.iter().filter_map(|target| target.split('#').next());
    files.filter(|file| !file.is_empty()).map(str::to_owned).collect()
}

/// The odd pieces between back quotes are code.
fn without_code_spans(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// The path from the root that `target` means in the document at `path`.
fn resolve(path: &Path, target: &str) -> PathBuf {
    match target.strip_prefix('/') {
        Some(from_root) => from_root.into(),
        None => path.parent().unwrap_or(Path::new("")).join(target),
    }
}

// ---- Reading Rust without a parser.

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn leading_word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

/// Every identifier and keyword, with the byte where it starts.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = next + code[next..].find(is_word)?;
        let word = leading_word(&code[start..]);
        next = start + word.len();
        Some((start, word))
    })
}

fn line_of(text: &str, place: usize) -> usize {
    text[..place].matches('\n').count() + 1
}

/// `source` with comments and the insides of literals overwritten by blanks, so that what is left
/// is code, on the lines where it was.
fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let in_word = code.chars().next_back().is_some_and(is_word);
        match literal_len(rest, in_word) {
            0 => {
                code.push(c);
                rest = &rest[c.len_utf8()..];
            }
            len => {
                code.extend(rest[..len].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[len..];
            }
        }
    }
    code
}

/// How many bytes the comment or literal takes that `rest` begins with; 0 if it begins with code.
/// `in_word`: the character before belongs to a word, so that an `r` here starts no raw string.
fn literal_len(rest: &str, in_word: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_len(rest);
    }
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| rest.starts_with(prefix));
    if let Some(raw) = prefix.filter(|_| !in_word) {
        let hashes = rest[raw.len()..].len() - rest[raw.len()..].trim_start_matches('#').len();
        if rest[raw.len() + hashes..].starts_with('"') {
            let opened = raw.len() + hashes + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            return rest[opened..].find(&end).map_or(rest.len(), |at| opened + at + end.len());
        }
    }
    match rest.chars().next() {
        Some('"') => quoted_len(rest, '"'),
        Some('\'') if is_char_literal(rest) => quoted_len(rest, '\''),
        _ => 0,
    }
}

/// Block comments nest.
fn block_comment_len(rest: &str) -> usize {
    let (mut depth, mut place) = (0, 0);
    while place < rest.len() {
        if rest[place..].starts_with("/*") {
            depth += 1;
            place += 2;
        } else if rest[place..].starts_with("*/") {
            depth -= 1;
            place += 2;
            if depth == 0 {
                return place;
            }
        } else {
            place += rest[place..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`.
fn is_char_literal(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

fn quoted_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (place, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return place + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

// ---- Each rule can be broken.

#[test]
fn comments_and_literals_are_not_code() {
    for (source, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */\n d */ e", "a             \n      e"),
        (r#"f("{ \" }", '{', '\'', b'}')"#, "f(        ,    ,     , b   )"),
        (r##"f(r#"{ " }"#, br"\", c"x")"##, "f(          ,      , c   )"),
        ("fn f<'a>(x: &'a str, y: &'static u8)", "fn f<'a>(x: &'a str, y: &'static u8)"),
        ("for r in var\"x\"", "for r in var   "),
        ("'é'; \"é\nü\" é", "   ;   \n   é"),
        ("let r#type = 1;", "let r#type = 1;"),
        ("\"not closed", "           "),
    ] {
        assert_eq!(code_only(source), code, "{source}");
    }
}

#[test]
fn an_upward_use_is_found() {
    let lib = "//! mod story;\npub mod types;\nmod error;\npub mod shard;\nmod tests { mod x; }";
    let order = declared_modules(&code_only(lib));
    assert_eq!(order[..3], ["types", "error", "shard"]);
    let uses = |file: &str, source: &str| {
        upward_uses(&order, &Path::new("src").join(file), &code_only(source)).len()
    };
    assert_eq!(uses("error.rs", "use crate::types::{A, B};\nuse crate::error::C;"), 0);
    assert_eq!(uses("error.rs", "use crate::shard::Shard;"), 1);
    assert_eq!(uses("error/a.rs", "use crate::{types::A, shard::{B, C}, error};"), 1);
    assert_eq!(uses("error.rs", "fn f() -> crate::shard::S { $crate::shard::new() }"), 2);
    assert_eq!(uses("error.rs", "use crate :: {\n  types,\n  shard as s,\n};"), 1);
    assert_eq!(uses("shard.rs", "use crate::Engine;"), 1, "a re-export");
    assert_eq!(
        uses("error.rs", "/// [`crate::shard`]\n// crate::shard\nlet a = \"crate::shard\";"),
        0
    );
    assert_eq!(uses("lib.rs", "use crate::shard::Shard;"), 0);
    for file in ["error.rs", "error/mod.rs"] {
        assert_eq!(uses(file, "use std::fmt;\npub use super::shard::Shard;"), 1);
        assert_eq!(uses(file, "mod tests {\n    use super::*;\n}"), 0);
    }
    for file in ["error/a.rs", "error/a/mod.rs"] {
        assert_eq!(uses(file, "use super::Own;\nuse super::{Two, Three};"), 0);
        assert_eq!(uses(file, "use super::super::{types, shard};"), 1);
    }
}

#[test]
fn a_missing_story_is_found() {
    assert!(opens_with_story("//! What this is.\n"));
    for text in ["", "\n//! Late.", "use std::fmt;", "// Not a doc comment.", "//!", "//! \n"] {
        assert!(!opens_with_story(text), "{text:?}");
    }
}

#[test]
fn functions_are_measured() {
    let source = "
        impl<F: Fn(u8) -> [u8; 2]> T for S<{ N }> {
            fn declared(&self) -> [u8; 4];
            pub(crate) async fn short<const N: usize>(a: [u8; { 1 }], f: fn(u8)) -> u8 { '}' }
            fn long()
            where
                u8: Copy,
            {
                fn nested() {
                    \"}\"; // }
                }
                if x { y } else { [0; { 2 }] }
            }
        }";
    let measured = functions(&code_only(source));
    let measured: Vec<_> =
        measured.iter().map(|it| (it.name.as_str(), it.line, it.lines)).collect();
    assert_eq!(measured, [("short", 4, 1), ("long", 5, 9), ("nested", 9, 3)]);
}

#[test]
fn what_is_too_long_is_found() {
    let function = |lines| format!("fn f() {{\n{}}}\n", "    x;\n".repeat(lines - 2));
    assert_eq!(long_functions(&function(FUNCTION_LINES_MAX)).len(), 0);
    assert_eq!(long_functions(&function(FUNCTION_LINES_MAX + 1)).len(), 1);
    assert_eq!(long_file(&"x\n".repeat(FILE_LINES_MAX)), None);
    assert!(long_file(&"x\n".repeat(FILE_LINES_MAX + 1)).is_some());
}

#[test]
fn banned_macros_are_found() {
    let found = |source: &str| banned_macros(&code_only(source)).len();
    assert_eq!(found("fn f() { todo!() }\nfn g() { dbg!(1); std::unimplemented!() }"), 3);
    assert_eq!(found("// todo!()\nlet todo = \"dbg!\"; if todo != x { not_todo!() }"), 0);
}

#[test]
fn machine_paths_are_found() {
    let [work, shared, ..] = MACHINE_PATHS;
    for text in [format!("cd {work}main"), format!("see `{shared}/a`"), format!("{work}x\n")] {
        assert_eq!(machine_paths(&text).len(), 1, "{text}");
    }
    for text in [format!("tests{work}x"), format!("https://a.b{work}x"), "/tmp/x".into()] {
        assert_eq!(machine_paths(&text).len(), 0, "{text}");
    }
}

#[test]
fn linked_files_are_found() {
    let markdown = "[a](A.md) and ![b](img/b.svg \"title\"), [c](/C.md#part)\n[d]: D.md\n\
        [net](https://x.y/z.md) [mail](mailto:a@b.c) [here](#part) `[code](no.md)`\n\
        ```\n[code](no.md)\n```\n";
    assert_eq!(linked_files(markdown), ["A.md", "img/b.svg", "/C.md", "D.md"]);
    assert_eq!(resolve(Path::new("docs/x.md"), "../A.md"), Path::new("docs/../A.md"));
    assert_eq!(resolve(Path::new("docs/x.md"), "/A.md"), Path::new("A.md"));
}

#[test]
fn ignored_files_are_known() {
    let cases =
        [("/target", "target", true), ("/target", "a/target", false), ("/data/", "data", true)];
    let more = [("*.profraw", "a/b.profraw", true), ("perf.data*", "perf.data.old", true)];
    let no = [("", "a", false), ("# note", "note", false), ("*.profraw", "a.rs", false)];
    for (rule, path, ignored) in cases.into_iter().chain(more).chain(no) {
        assert_eq!(is_ignored(rule, Path::new(path)), ignored, "{rule} {path}");
    }
}

//! The checkout becomes the commit that `devplane --version` names, and the sources of the pages the files that the gateway serves.
//!
//! The pages are built by Node.js in the output directory, so that the checkout stays as it is. `DEVPLANE_WEB_DIST` names a
//! directory in which they are built already (by `node build.mjs DIRECTORY`): where that is set, no Node.js is needed.

#![expect(clippy::disallowed_methods, reason = "a build script is told by its environment")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const WEB: &str = "src/gateway/web";
const WEB_SOURCES: [&str; 6] = [
    "package.json",
    "package-lock.json",
    ".npmrc",
    "build.mjs",
    "src",
    "static",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEVPLANE_COMMIT");
    let commit = std::env::var("DEVPLANE_COMMIT")
        .ok()
        .or_else(commit)
        .unwrap_or_else(|| "unknown commit".to_owned());
    println!("cargo:rustc-env=DEVPLANE_COMMIT={commit}");

    println!("cargo:rerun-if-env-changed=DEVPLANE_WEB_DIST");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let built = match std::env::var_os("DEVPLANE_WEB_DIST") {
        Some(directory) => {
            let directory = PathBuf::from(directory);
            println!("cargo:rerun-if-changed={}", directory.join("index.txt").display());
            Ok(directory)
        }
        None => build_web(&out),
    };
    let listed = built.and_then(|directory| assets(&directory));
    let written = listed.and_then(|text| write(&out.join("assets.rs"), &text));
    if let Err(message) = written {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
        exit(1);
    }
}

/// The short hash of the commit that is checked out; `None` outside a git checkout.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// Builds the pages below `out`, and gives the directory with them.
fn build_web(out: &Path) -> Result<PathBuf, String> {
    let web = out.join("web");
    for name in WEB_SOURCES {
        let source = Path::new(WEB).join(name);
        println!("cargo:rerun-if-changed={}", source.display());
        copy(&source, &web.join(name))?;
    }
    let lock = read(&web.join("package-lock.json"))?;
    let installed = web.join("installed-lock.json");
    // The lock file that the packages were installed for.
    if fs::read_to_string(&installed).ok().as_ref() != Some(&lock) {
        run(
            &web,
            "npm",
            &["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
        )?;
        write(&installed, &lock)?;
    }
    run(&web, "node", &["build.mjs", "dist"])?;
    Ok(web.join("dist"))
}

fn run(directory: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    let command = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).current_dir(directory).output();
    let output = output.map_err(|error| {
        format!(
            "the gateway's pages are built with Node.js 20 or newer, and `{command}` can't be run: {error}\n\
             install Node.js with npm, or set DEVPLANE_WEB_DIST to a directory made by `node build.mjs DIRECTORY` in {WEB}"
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{command}` failed in {}:\n{said}", directory.display()))
}

/// The Rust source that names every file of `directory`: see `src/gateway/assets.rs`.
fn assets(directory: &Path) -> Result<String, String> {
    let directory = directory
        .canonicalize()
        .map_err(|error| format!("can't find the pages in {}: {error}", directory.display()))?;
    let index = directory.join("index.txt");
    let (mut files, mut names) = (String::new(), String::new());
    for line in read(&index)?.lines() {
        let (name, file) = line
            .split_once(' ')
            .ok_or_else(|| format!("{}: expected `NAME FILE`, found `{line}`", index.display()))?;
        let path = directory.join(file);
        let content_type = content_type(file).ok_or_else(|| format!("no media type is known for {file}"))?;
        // Writing to a String can't fail.
        let _ = writeln!(
            files,
            "    File {{ path: \"/assets/{file}\", content_type: {content_type:?}, bytes: include_bytes!({path:?}) }},"
        );
        if USED.contains(&name) {
            let _ = writeln!(names, "pub const {name}: &str = \"/assets/{file}\";");
        }
    }
    Ok(format!("static FILES: &[File] = &[\n{files}];\n{names}"))
}

/// The files that the templates name.
const USED: [&str; 6] = [
    "FAVICON",
    "MANIFEST",
    "PAGE_STYLE",
    "STARTING_SCRIPT",
    "TERMINAL_SCRIPT",
    "TERMINAL_STYLE",
];

fn content_type(file: &str) -> Option<&'static str> {
    Some(match Path::new(file).extension()?.to_str()? {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        "webmanifest" => "application/manifest+json",
        "woff2" => "font/woff2",
        _ => return None,
    })
}

/// Copies a file or a whole directory, without what the source no longer has.
fn copy(source: &Path, target: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("can't copy {} to {}: {error}", source.display(), target.display());
    if !source.is_dir() {
        fs::create_dir_all(target.parent().unwrap_or(target)).map_err(failed)?;
        return fs::copy(source, target).map(drop).map_err(failed);
    }
    if target.exists() {
        fs::remove_dir_all(target).map_err(failed)?;
    }
    for entry in fs::read_dir(source).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        copy(&source.join(&name), &target.join(&name))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("can't write {}: {error}", path.display()))
}

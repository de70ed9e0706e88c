//! One setting: its environment variable, its key in the file, its default and its meaning, written down once.
//! `--help`, the reference page and every error message come from here.

/// A key that a role reads.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable.
    pub env: &'static str,
    /// The key in the configuration file, levels separated by dots.
    pub path: &'static str,
    pub default: Option<&'static str>,
    pub required: bool,
    /// A secret's value is never shown.
    pub secret: bool,
    pub help: &'static str,
}

/// Begins a setting that is optional and has no default.
pub const fn setting(env: &'static str, path: &'static str) -> Setting {
    Setting {
        env,
        path,
        default: None,
        required: false,
        secret: false,
        help: "",
    }
}

impl Setting {
    #[must_use]
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    #[must_use]
    pub const fn help(mut self, text: &'static str) -> Self {
        self.help = text;
        self
    }
}

pub const LOG_LEVEL: Setting = setting("LOG_LEVEL", "log.level")
    .default("info")
    .help("error, warn, info, debug or trace; or directives such as info,devplane::proxy=debug");
pub const LOG_FORMAT: Setting = setting("LOG_FORMAT", "log.format")
    .default("json")
    .help("json, one object a line, or text for people");

/// A table of `settings` for `--help`, which clap wraps and indents no further.
pub fn help_table(settings: &[Setting]) -> String {
    let mut text = String::from(
        "Settings (environment variable; key in the --config file in brackets; the environment wins over the file):\n",
    );
    for setting in settings {
        let Setting {
            env,
            path,
            default,
            required,
            secret: _,
            help,
        } = setting;
        text.push_str(&format!("  {env} [{path}]\n      {help}"));
        match default {
            Some(default) => text.push_str(&format!(" (default: {default})\n")),
            None if *required => text.push_str(" (required)\n"),
            None => text.push('\n'),
        }
    }
    text
}

//! What a build without detailed logs is told when they are asked for.

use tracing::level_filters::LevelFilter;

use super::{LogLevel, Logging, Origins};

/// The warning for a `logging.level` of which a build that has nothing beyond `built` shows less than it says.
pub(super) fn missing(logging: &Logging, origins: &Origins, built: LevelFilter) -> Option<String> {
    let level = logging.level;
    let wanted = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    (wanted > built).then(|| {
        let message = format!("{level} is not in this build: nothing below {built} is logged");
        let error = origins.error("logging.level", message);
        error.hint("a build with ENABLE_LOGGING=ON, as is the default, has detailed logs").one_line()
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Source, load_server};
    use super::*;

    fn warning(level: &str, built: LevelFilter) -> Option<String> {
        let overrides = vec![("logging.level".to_owned(), level.to_owned())];
        let loaded = load_server(&Source { overrides, ..Source::default() }).unwrap();
        missing(&loaded.value.logging, &loaded.origins, built)
    }

    #[test]
    fn only_what_the_build_does_not_have_is_told() {
        for level in ["error", "warn", "info"] {
            assert_eq!(warning(level, LevelFilter::INFO), None);
        }
        for level in ["error", "warn", "info", "debug", "trace"] {
            assert_eq!(warning(level, LevelFilter::TRACE), None);
        }
        assert_eq!(
            warning("debug", LevelFilter::INFO).unwrap(),
            "command line: logging.level: debug is not in this build: nothing below info is logged; \
             hint: a build with ENABLE_LOGGING=ON, as is the default, has detailed logs"
        );
        assert!(warning("trace", LevelFilter::INFO).unwrap().contains("trace is not in this build"));
    }
}

use std::fmt;

use crate::Level;
use crate::bindings::loom::host;

/// What the macros call.
pub fn log(level: Level, target: &str, message: fmt::Arguments<'_>) {
    host::log::log(level.to_host(), target, &message.to_string());
}

/// Writes every detail to Loom's own log. Takes what [`format!`] takes.
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Trace, ::core::module_path!(), ::core::format_args!($($message)+))
    };
}

/// Writes to Loom's own log, for who looks for a mistake. Takes what [`format!`] takes.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Debug, ::core::module_path!(), ::core::format_args!($($message)+))
    };
}

/// Writes ordinary progress to Loom's own log. Takes what [`format!`] takes.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Info, ::core::module_path!(), ::core::format_args!($($message)+))
    };
}

/// Writes to Loom's own log that something is not as it should be. Takes what [`format!`] takes.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Warn, ::core::module_path!(), ::core::format_args!($($message)+))
    };
}

/// Writes to Loom's own log that something failed. Takes what [`format!`] takes.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Error, ::core::module_path!(), ::core::format_args!($($message)+))
    };
}

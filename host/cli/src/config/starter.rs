//! The file that `loom config init` writes: every setting, explained, none of them set.

/// A config file in which everything is a comment. Where the `#` stands in the first column, and not before the words
/// of the first lines, it hides a setting that is right as it stands: what holds anyway, or an example.
pub(crate) const STARTER: &str = "\
# Settings of Loom. From the weakest to the strongest: what is built in, the user's file
# (~/.config/loom/config.yml), the repository's (.loom/config.yml), the environment, flags.
# `loom config show` says what holds, and why.

#runtime:
  # Jobs that may run at once; without it, the number of processors. The flag: --jobs.
#  jobs: 4

  # The folder for what can be made again: caches, compiled plugins, copies of repositories. Only in the user's file,
  # and only a folder that is the user's alone. Here and below, a path is absolute or relative to the folder of this file.
#  cacheDir: /data/me/loom

  # The folder for the runs' copies of repositories, outside of any repository; without it, `workspaces` in cacheDir.
  # Only in the user's file.
#  workspaceDir: /data/me/loom-workspaces

  # Copies of a repository that stay when their runs are over, for the next ones and for a look.
#  keepRuns: 5

  # The size in bytes at which the cache forgets what was used longest ago.
#  cacheMaxBytes: 10737418240

  # Records of runs (logs, artifacts, receipts) that are kept, per repository: how many, how many bytes of them, and how
  # many days; 0 bytes or days for no limit. The oldest go first, those of failed runs last, the newest never.
#  keepRecords: 500
#  recordsMaxBytes: 4294967296
#  recordsMaxDays: 90

  # The bytes of output of each step that are recorded. Of more, the beginning and the end are; 0 for all of it.
#  outputMaxBytes: 268435456

#  limits:
    # What the processes of a job may use together, also in a container: memory, in bytes or with KiB, MiB, GiB or TiB,
    # and processes and threads; 0 for no limit. A warning says what cannot be limited on this machine.
#    memory: 2GiB
#    pids: 512

  # Whether each job on this machine has a control group, so that nothing that it starts can outlive it; with limits it
  # has one anyway.
#  controlGroups: false

#  docker:
    # How a container sees the workspace: ephemeral_volume (a volume, filled from it) or bind_mount (the folder itself).
    # The environment: LOOM_DOCKER_WORKSPACE_MOUNT. The flag: --docker-workspace-mount.
#    workspaceMount: ephemeral_volume

#providers:
#  keepass:
    # A database for each alias, which is what stands before the # of keepass://<alias>#<entry>:<field>.
    # The environment: LOOM_KEEPASS_DB_<KEY>_PATH, _PASSWORD_ENV, _KEYFILE_ENV, where KEY is the alias in upper case
    # with _ for every character that is neither letter nor digit.
#    aliases:
#      team/app:
#        path: keepass/TEAM_APP.kdbx
        # Names of environment variables, never the secrets themselves.
#        passwordEnv: TEAM_APP_PASSWORD
#        keyfileEnv: TEAM_APP_KEYFILE

#  op:
    # The name of the environment variable that holds the token of the 1Password service account.
#    serviceAccountTokenEnv: OP_SERVICE_ACCOUNT_TOKEN
";

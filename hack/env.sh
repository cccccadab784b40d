# Sourced by the scripts beside it, and by you: `. hack/env.sh`. Puts the tools that hack/setup installed for this project, and the
# system directories that a plain user's PATH leaves out, on PATH. Installs nothing.
ORIGINAL_PATH=$PATH
IRONKEEL_TOOLS=${IRONKEEL_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/ironkeel/bin}
export IRONKEEL_TOOLS
case ":$PATH:" in *":$IRONKEEL_TOOLS:"*) ;; *) PATH=$IRONKEEL_TOOLS:$PATH ;; esac
for directory in /usr/local/sbin /usr/sbin /sbin; do
  case ":$PATH:" in *":$directory:"*) ;; *) PATH=$PATH:$directory ;; esac
done
unset directory
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$PATH:$HOME/.cargo/bin; fi
export PATH

# The busybox that needs no library at run time, if the machine has it.
busybox_static() {
  local file
  for file in /bin/busybox /usr/bin/busybox /bin/busybox-static; do
    if [ -x "$file" ] && ! ldd "$file" >/dev/null 2>&1; then echo "$file"; return; fi
  done
}

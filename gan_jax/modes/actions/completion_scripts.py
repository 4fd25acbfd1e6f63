"""The scripts of `completion.py`, with @NAMES@ in place of what is filled in."""

# functions that bash and zsh understand alike: what follows a mode, a config, a flag
_LOOKUPS = r"""
_gan_jax_flags() {
  case "$1" in
    @FLAGS@
  esac
}

_gan_jax_variants() {
  case "$1" in
    @VARIANTS@
  esac
}

_gan_jax_choices() {
  case "$1" in
    @CHOICES@
  esac
}
"""

BASH = (
    "# Completion of gan_jax in bash: source this file.\n"
    + _LOOKUPS
    + r"""
_gan_jax_runs() {  # folders of runs whose path begins with $1
  local file
  for file in "$1"*/config.json; do
    [[ -e $file ]] && printf '%s\n' "${file%/config.json}"
  done
}

_gan_jax() {
  local line="${COMP_LINE:0:COMP_POINT}" mode=train
  local word="${line##*[[:space:]]}"
  local value="${word#*=}"
  local pattern='--mode[= ]([a-z_]+)( |$)'
  [[ $COMP_LINE =~ $pattern ]] && mode="${BASH_REMATCH[1]}"
  COMPREPLY=()
  case "$word" in
    --config=*:*)
      local name="${value%%:*}" chosen="${value#*:}"
      name="${name##*/}"
      local before="${value%"${chosen##*,}"}"
      mapfile -t COMPREPLY < <(
        compgen -P "$before" -W "$(_gan_jax_variants "${name%.py}")" -- "${chosen##*,}")
      compopt -o nospace 2>/dev/null
      ;;
    --config=*)
      mapfile -t COMPREPLY < <(compgen -W "@CONFIGS@" -- "$value")
      [[ ${#COMPREPLY[@]} -gt 0 ]] || mapfile -t COMPREPLY < <(compgen -f -- "$value")
      compopt -o nospace 2>/dev/null
      ;;
    --workdir=*)
      mapfile -t COMPREPLY < <(
        _gan_jax_runs "$value"; [[ -n $value ]] || _gan_jax_runs runs/)
      [[ ${#COMPREPLY[@]} -gt 0 ]] || mapfile -t COMPREPLY < <(compgen -d -- "$value")
      compopt -o filenames 2>/dev/null
      ;;
    --*=*)
      local accepted="${word%%=*}"
      accepted="$(_gan_jax_choices "${accepted#--}")"
      if [[ -n $accepted ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$accepted" -- "$value")
      else
        mapfile -t COMPREPLY < <(compgen -f -- "$value")
        compopt -o filenames 2>/dev/null
      fi
      ;;
    *)
      mapfile -t COMPREPLY < <(compgen -W "$(_gan_jax_flags "$mode") @GENERAL@" -- "$word")
      [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
      return
      ;;
  esac
  # bash itself keeps what stands before the last of these characters
  [[ $COMP_WORDBREAKS == *=* ]] || COMPREPLY=("${COMPREPLY[@]/#/${word%%=*}=}")
  if [[ $COMP_WORDBREAKS == *:* && $value == *:* ]]; then
    COMPREPLY=("${COMPREPLY[@]#*:}")
  fi
}

complete -F _gan_jax gan_jax launch.py
"""
)

ZSH = (
    "#compdef gan_jax launch.py\n"
    "# Completion of gan_jax in zsh: source this file after compinit.\n"
    + _LOOKUPS
    + r"""
_gan_jax() {
  local mode=train word name
  local -a found
  for word in "${words[@]}"; do
    [[ $word == --mode=* ]] && mode="${word#--mode=}"
  done
  word="$PREFIX"
  case "$word" in
    --config=*:*)
      name="${${${word#--config=}%%:*}:t:r}"
      found=(${=$(_gan_jax_variants "$name")})
      compset -P '*[:,]'
      compadd -S '' -a found
      ;;
    --config=*)
      found=(@CONFIGS@)
      compset -P '*='
      compadd -S '' -a found
      _files -g '*.py'
      ;;
    --workdir=*)
      found=(runs/*/config.json(N:h))
      compset -P '*='
      compadd -a found
      _files -/
      ;;
    --*=*)
      found=(${=$(_gan_jax_choices "${${word%%=*}#--}")})
      compset -P '*='
      if (( $#found )); then compadd -a found; else _files; fi
      ;;
    *)
      found=(${=$(_gan_jax_flags "$mode")} @GENERAL@)
      compadd -S '' -- ${(M)found:#*=}
      compadd -- ${found:#*=}
      ;;
  esac
}

compdef _gan_jax gan_jax launch.py
"""
)

FISH = r"""# Completion of gan_jax in fish: source this file.

function __gan_jax_mode_is
    set -l mode train
    for word in (commandline -opc)
        string match -qr '^--mode=' -- $word; and set mode (string replace -- --mode= '' $word)
    end
    test $mode = $argv[1]
end

function __gan_jax_variants
    switch $argv[1]
@VARIANTS@
    end
end

function __gan_jax_configs
    set -l value (string replace -r '^--config=' '' -- (commandline -ct))
    if string match -q '*:*' -- $value
        set -l name (string replace -r ':.*' '' -- $value)
        set -l stem (string replace -r '\.py$' '' -- (string replace -r '.*/' '' -- $name))
        set -l before (string replace -r '[^:,]*$' '' -- $value)
        for variant in (string split ' ' -- (__gan_jax_variants $stem))
            echo $before$variant
        end
    else
        string split ' ' -- '@CONFIGS@'
        __fish_complete_suffix .py
    end
end

function __gan_jax_runs
    for file in runs/*/config.json
        dirname $file
    end
    __fish_complete_directories (string replace -r '^--workdir=' '' -- (commandline -ct))
end

complete -c gan_jax -f
@FLAGS@
"""

"""Completion for shells, written from the parsers: commands, verbs and options."""

import argparse
from collections.abc import Iterator, Mapping

SHELLS = ("bash", "zsh")
_BASH = """\
# bash completion for starling; load it with: source <(starling completion bash)
_starling() {{
    local cur words
    cur="${{COMP_WORDS[COMP_CWORD]}}"
    case "${{COMP_WORDS[*]:1:2}}" in
{cases}
    esac
    case "$COMP_CWORD $cur" in
        1\\ *) words="{commands}" ;;
    esac
    COMPREPLY=()
    if [[ "$cur" == -* || "$COMP_CWORD" -le 2 ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    fi
    if [[ "${{#COMPREPLY[@]}}" -eq 0 && "$COMP_CWORD" -gt 1 ]]; then
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}}
complete -o filenames -F _starling starling
"""
_ZSH = "autoload -Uz bashcompinit && bashcompinit\n"


def words_of(
    parsers: Mapping[str, argparse.ArgumentParser],
) -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Words that may come after a command, and after a command and its verb.

    Args:
      parsers: By command.
    """
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name, parser in parsers.items():
        verbs = _verbs(parser)
        found[(name,)] = (*sorted(verbs), *_options(parser))
        for verb, child in verbs.items():
            found[(name, verb)] = tuple(_options(child))
    return found


def script(shell: str, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """Script that a shell reads.

    Args:
      shell: One of `SHELLS`.
      parsers: By command.
    """
    # The longest first: bash takes the first pattern that fits.
    rows = sorted(words_of(parsers).items(), key=lambda row: (-len(row[0]), row[0]))
    cases = "\n".join(
        f'        {_pattern(place)}) words="{" ".join(words)}" ;;'
        for place, words in rows
    )
    text = _BASH.format(cases=cases, commands=" ".join(sorted(parsers)))
    return _ZSH + text if shell == "zsh" else text


def _pattern(place: tuple[str, ...]) -> str:
    name, *verb = place
    return f'"{name} {verb[0]}"' if verb else f'"{name}"|"{name} "*'


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            return dict(action.choices)
    return {}


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 - as above
        yield from (each for each in action.option_strings if each.startswith("--"))

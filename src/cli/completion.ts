/**
 * Completion for shells, as a script that is generated from the tree of commands. The shell looks words up in it, so
 * pressing Tab does not start Node, and nothing that the user types is evaluated.
 */
import { Argument, Command, type Option } from "commander";
import { print } from "./terminal.ts";

const shells = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;

export function completionCommand(program: Command): Command {
  return new Command("completion")
    .description("a script that lets a shell complete commands and options")
    .addArgument(new Argument("<shell>", "whose").choices(Object.keys(shells)))
    .action((shell: keyof typeof shells) => print(completionScript(program, shell)));
}

export const completionScript = (program: Command, shell: keyof typeof shells): string =>
  shells[shell](nodesOf(program, ""));

interface Node {
  /** "" for the program, "/bench/ilf" for a command of a command. */
  readonly path: string;
  readonly commands: readonly Command[];
  readonly options: readonly Option[];
}

function nodesOf(command: Command, path: string): Node[] {
  const help = command.createHelp();
  const commands = help.visibleCommands(command);
  const own = { path, commands, options: help.visibleOptions(command) };
  return [own, ...commands.flatMap((child) => nodesOf(child, `${path}/${child.name()}`))];
}

const namesOf = ({ long, short }: Option) => [long, short].filter((name) => name !== undefined);

/** Within single quotes, in all three shells; without line breaks. */
const quoted = (text: string) => `'${text.replaceAll("\n", " ").replaceAll("'", "’")}'`;

const pathsOf = (nodes: readonly Node[]) => nodes.map(({ path }) => path).filter((path) => path !== "");

/** For each option with a fixed choice of values: "/generate --scheduler" and the values. */
function choicesOf(nodes: readonly Node[], write: (values: readonly string[]) => string): string {
  return nodes
    .flatMap(({ path, options }) =>
      options
        .filter(({ argChoices }) => argChoices)
        .map((option) => {
          const patterns = namesOf(option).map((name) => quoted(`${path} ${name}`));
          return `    ${patterns.join("|")}) ${write(option.argChoices!)}; return ;;`;
        }),
    )
    .join("\n");
}

function bashScript(nodes: readonly Node[]): string {
  const words = nodes.map(({ path, commands, options }) => {
    const flags = options.flatMap(namesOf).join(" ");
    return `    ${quoted(path)}) options=${quoted(flags)} commands=${quoted(commands.map((c) => c.name()).join(" "))} ;;`;
  });
  return `# halfstep in bash: eval "$(halfstep completion bash)"
_halfstep() {
  local current="\${COMP_WORDS[COMP_CWORD]}" at="" options="" commands="" i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at/\${COMP_WORDS[i]}" in
      ${pathsOf(nodes).join("|")}) at="$at/\${COMP_WORDS[i]}" ;;
    esac
  done
  case "$at \${COMP_WORDS[COMP_CWORD-1]}" in
${choicesOf(nodes, (values) => `COMPREPLY=($(compgen -W ${quoted(values.join(" "))} -- "$current"))`)}
  esac
  case "$at" in
${words.join("\n")}
  esac
  if [[ "$current" == -* ]]; then commands="$options"; fi
  COMPREPLY=($(compgen -W "$commands" -- "$current"))
}
complete -o default -F _halfstep halfstep`;
}

function zshScript(nodes: readonly Node[]): string {
  const described = (name: string, text: string) => quoted(`${name}:${text}`);
  const words = nodes.map(({ path, commands, options }) => {
    const flags = options.flatMap((option) => namesOf(option).map((name) => described(name, option.description)));
    const names = commands.map((command) => described(command.name(), command.description()));
    return `    ${quoted(path)}) options=(${flags.join(" ")}) commands=(${names.join(" ")}) ;;`;
  });
  return `#compdef halfstep
# halfstep in zsh: eval "$(halfstep completion zsh)", after compinit
_halfstep() {
  local at="" i
  local -a options commands
  for ((i = 2; i < CURRENT; i++)); do
    case "$at/\${words[i]}" in
      ${pathsOf(nodes).join("|")}) at="$at/\${words[i]}" ;;
    esac
  done
  case "$at \${words[CURRENT-1]}" in
${choicesOf(nodes, (values) => `compadd -- ${values.map(quoted).join(" ")}`)}
  esac
  case "$at" in
${words.join("\n")}
  esac
  if [[ "\${words[CURRENT]}" == -* ]]; then _describe -o option options
  elif (( $#commands )); then _describe command commands
  else _files
  fi
}
compdef _halfstep halfstep`;
}

function fishScript(nodes: readonly Node[]): string {
  const lines = nodes.flatMap(({ path, commands, options }) => {
    const start = `complete -c halfstep -n ${quoted(`__halfstep_at "${path}"`)}`;
    return [
      ...commands.map((command) => `${start} -f -a ${command.name()} -d ${quoted(command.description())}`),
      ...options.map((option) => {
        const names = [option.long && `-l ${option.long.slice(2)}`, option.short && `-s ${option.short.slice(1)}`];
        return [start, ...names, fishValue(option), `-d ${quoted(option.description)}`].filter(Boolean).join(" ");
      }),
    ];
  });
  return `# halfstep in fish: halfstep completion fish > ~/.config/fish/completions/halfstep.fish
function __halfstep_at
  set -l at ""
  for word in (commandline -opc)[2..]
    switch "$at/$word"
      case ${pathsOf(nodes).join(" ")}
        set at "$at/$word"
    end
  end
  test "$at" = "$argv[1]"
end
${lines.join("\n")}`;
}

/** The value that follows an option: none, one of some words, a number, or a file name. */
function fishValue({ required, optional, argChoices, flags }: Option): string {
  if (!required && !optional) return "";
  if (argChoices) return `-x -a ${quoted(argChoices.join(" "))}`;
  return /<(file|folder|name)/.test(flags) ? "-r -F" : "-x";
}

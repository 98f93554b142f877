/* Scripts that teach a shell the program's commands and flags. They hold the whole table, so that
 * completing costs no call of the program. Each walks the words typed so far down the table, keeps
 * the path ("/member/add"), and offers what that path has. */
#include "tools/cli/cli_private.h"

#include <string.h>

#define PATH_BYTES_MAX 256U

struct script {
    const struct cli_program *program;
    FILE *out;
};

static void put_flag_names(FILE *out, const struct cli_flag *flags)
{
    for (const struct cli_flag *flag = flags; flag != NULL && flag->name != NULL; flag++) {
        if (!flag->hidden)
            fprintf(out, " --%s%s", flag->name, flag->kind == CLI_BOOL ? "" : "=");
    }
}

static void put_members(const struct script *script, const struct cli_path *path)
{
    const struct cli_command *const *members = cli_path_commands(script->program, path);
    for (; members != NULL && *members != NULL; members++) {
        if (!(*members)->hidden)
            fprintf(script->out, " %s", (*members)->name);
    }
}

static void put_case(void *context, const struct cli_path *path)
{
    const struct script *script = context;
    const struct cli_command *command = cli_path_last(path);
    char text[PATH_BYTES_MAX];
    fprintf(script->out, "    %s%s) offered=\"", path->depth == 0 ? "" : "/",
            path->depth == 0 ? "''" : cli_path_text(path, "/", text, sizeof(text)));
    put_members(script, path);
    fputs("\" flags=\"", script->out);
    put_flag_names(script->out, command == NULL ? NULL : command->flags);
    fputs("\" ;;\n", script->out);
}

static void put_known(void *context, const struct cli_path *path)
{
    const struct script *script = context;
    char text[PATH_BYTES_MAX];
    fprintf(script->out, "|/%s", cli_path_text(path, "/", text, sizeof(text)));
}

/* bash and zsh alike: `at`, the path that the words in `before` lead to; then `offered`, the
 * commands there, or the flags when `current` begins as one. */
static void put_walk(const struct script *script)
{
    static const struct cli_path root;
    fputs("    local at='' offered='' flags='' word\n"
          "    for word in \"${before[@]}\"; do\n        case \"$at/$word\" in\n        ''",
          script->out);
    cli_walk(script->program, &root, put_known, (void *)script);
    fputs(") at=\"$at/$word\" ;;\n        esac\n    done\n    case \"$at\" in\n", script->out);
    put_case((void *)script, &root);
    cli_walk(script->program, &root, put_case, (void *)script);
    fputs("    esac\n    case \"$current\" in\n    -*) offered=\"$flags", script->out);
    put_flag_names(script->out, script->program->flags);
    put_flag_names(script->out, cli_help_flags);
    fputs("\" ;;\n    esac\n", script->out);
}

static int run_bash(struct cli *cli)
{
    struct script script = {.program = cli->program, .out = cli->out};
    const char *name = cli->program->name;
    fprintf(cli->out,
            "# bash completion for %s; load it by: source <(%s completion bash)\n"
            "_%s()\n{\n    local current=\"${COMP_WORDS[COMP_CWORD]}\"\n"
            "    local before=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\")\n",
            name, name, name);
    put_walk(&script);
    fprintf(cli->out,
            "    COMPREPLY=($(compgen -W \"$offered\" -- \"$current\"))\n"
            "    case \"${COMPREPLY[0]}\" in\n    *=) compopt -o nospace 2>/dev/null ;;\n    esac\n"
            "}\ncomplete -o default -F _%s %s\n",
            name, name);
    return CLI_EXIT_OK;
}

static int run_zsh(struct cli *cli)
{
    struct script script = {.program = cli->program, .out = cli->out};
    const char *name = cli->program->name;
    fprintf(cli->out,
            "#compdef %s\n# zsh completion for %s; load it by: source <(%s completion zsh)\n"
            "_%s()\n{\n    local current=\"${words[CURRENT]}\"\n    local -a before plain valued\n"
            "    before=(\"${(@)words[2,CURRENT-1]}\")\n",
            name, name, name, name);
    put_walk(&script);
    fprintf(cli->out,
            "    for word in ${=offered}; do\n"
            "        if [[ $word == *= ]]; then valued+=($word); else plain+=($word); fi\n"
            "    done\n    compadd -S '' -- $valued\n    compadd -- $plain\n"
            "    [[ -n $offered ]] || _files\n}\n"
            "if [[ $funcstack[1] == _%s ]]; then _%s \"$@\"; else compdef _%s %s; fi\n",
            name, name, name, name);
    return CLI_EXIT_OK;
}

/* Within fish's single quotes only these two need a backslash. */
static void put_fish_text(FILE *out, const char *text)
{
    fputc('\'', out);
    for (; *text != '\0'; text++) {
        if (*text == '\'' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('\'', out);
}

static void put_fish_flags(const struct script *script, const char *path,
                           const struct cli_flag *flags)
{
    for (uint32_t i = 0; i < cli_flags_count(flags); i++) {
        if (flags[i].hidden)
            continue;
        fprintf(script->out, "complete -c %s", script->program->name);
        if (path != NULL)
            fprintf(script->out, " -n '__%s_at \"%s\"'", script->program->name, path);
        if (flags[i].letter != 0)
            fprintf(script->out, " -s %c", flags[i].letter);
        fprintf(script->out, " -l %s%s -d ", flags[i].name, flags[i].kind == CLI_BOOL ? "" : " -r");
        put_fish_text(script->out, flags[i].help);
        fputc('\n', script->out);
    }
}

static void put_fish_command(void *context, const struct cli_path *path)
{
    const struct script *script = context;
    const struct cli_command *command = cli_path_last(path);
    struct cli_path parent = {.depth = path->depth - 1};
    memcpy(parent.steps, path->steps, parent.depth * sizeof(*parent.steps));
    char text[PATH_BYTES_MAX], above[PATH_BYTES_MAX];
    cli_path_text(path, "/", text, sizeof(text));
    cli_path_text(&parent, "/", above, sizeof(above));
    fprintf(script->out, "complete -c %s -f -n '__%s_at \"%s\"' -a %s -d ", script->program->name,
            script->program->name, above, command->name);
    put_fish_text(script->out, command->brief);
    fputc('\n', script->out);
    put_fish_flags(script, text, command->flags);
}

static void put_fish_known(void *context, const struct cli_path *path)
{
    const struct script *script = context;
    char text[PATH_BYTES_MAX];
    fprintf(script->out, " %s", cli_path_text(path, "/", text, sizeof(text)));
}

static int run_fish(struct cli *cli)
{
    static const struct cli_path root;
    struct script script = {.program = cli->program, .out = cli->out};
    const char *name = cli->program->name;
    fprintf(cli->out,
            "# fish completion for %s; load it by: %s completion fish | source\n"
            "function __%s_at\n    set -l path\n    for word in (commandline -opc)[2..-1]\n"
            "        set -l next (string join -- / $path $word)\n        if contains -- $next",
            name, name, name);
    cli_walk(cli->program, &root, put_fish_known, &script);
    fputs("\n            set path $next\n        end\n    end\n    test \"$path\" = "
          "\"$argv[1]\"\nend\n",
          cli->out);
    cli_walk(cli->program, &root, put_fish_command, &script);
    put_fish_flags(&script, NULL, cli->program->flags);
    put_fish_flags(&script, NULL, cli_help_flags);
    return CLI_EXIT_OK;
}

static const struct cli_command bash_command = {
    .name = "bash", .brief = "Prints a completion script for bash", .run = run_bash};
static const struct cli_command zsh_command = {
    .name = "zsh", .brief = "Prints a completion script for zsh", .run = run_zsh};
static const struct cli_command fish_command = {
    .name = "fish", .brief = "Prints a completion script for fish", .run = run_fish};
static const struct cli_command *const shells[] = {&bash_command, &zsh_command, &fish_command,
                                                   NULL};

const struct cli_command cli_completion_command = {
    .name = "completion",
    .usage = "<shell>",
    .brief = "Prints a completion script for a shell",
    .commands = shells,
};

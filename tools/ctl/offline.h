/* tools/ctl/offline.h - what cleatutl does in cleatctl's place. */
#ifndef TOOLS_CTL_OFFLINE_H
#define TOOLS_CTL_OFFLINE_H
struct cli;

/* defrag --data-dir. Does not return when cleatutl could be started; else an exit code. */
int offline_defrag(struct cli *cli);
#endif

/* tools/ctl/role.h - what `user get --detail` takes from the commands for roles. */
#ifndef TOOLS_CTL_ROLE_H
#define TOOLS_CTL_ROLE_H

struct ctl;

/* Asks for a role and shows what it allows. Returns an exit code, errors told. */
int role_get(struct ctl *ctl, const char *name);
#endif

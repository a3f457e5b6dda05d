/* Who is at the other end of a control connection. */
#pragma once

#include "daemon/control.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <sys/types.h>

#define MT_ADMIN_GROUP "mytunnel"
#define MT_READ_GROUP  "mytunnel-read"

struct mt_credentials {
	uid_t uid;
	const gid_t *groups; /* primary and supplementary ones */
	size_t group_count;
};

/* What a peer may do. Pure: group ids are passed in, (gid_t)-1 for a group that does not exist. */
enum mt_rights mt_control_rights(
	const struct mt_credentials *peer, uid_t own_uid, gid_t admin_group, gid_t read_group);
#define MT_USER_TEXT_MAX 64
/* A user's name, or its number when it has none; fills and returns `buf` (MT_USER_TEXT_MAX). */
const char *mt_control_user(char *buf, uid_t uid);
/* Asks the kernel about the peer of `fd` and decides; `*uid` and `*pid` are for the records. */
int mt_control_identify(int fd, enum mt_rights *rights, uid_t *uid, pid_t *pid) MT_MUST_CHECK;
/* Whether it has closed both directions: who shut down one may still want the answer. */
bool mt_control_has_hung_up(int fd);

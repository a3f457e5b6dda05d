#include "daemon/control_peer.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define GROUPS_MAX 65536 /* NGROUPS_MAX of the kernel */

static bool has_group(const struct mt_credentials *peer, gid_t group)
{
	for (size_t i = 0; group != (gid_t)-1 && i < peer->group_count; i++) {
		if (peer->groups[i] == group) {
			return true;
		}
	}
	return false;
}

enum mt_rights mt_control_rights(
	const struct mt_credentials *peer, uid_t own_uid, gid_t admin_group, gid_t read_group)
{
	if (peer->uid == 0 || peer->uid == own_uid || has_group(peer, admin_group)) {
		return MT_RIGHTS_ADMIN;
	}
	return has_group(peer, read_group) ? MT_RIGHTS_READ : MT_RIGHTS_NONE;
}

const char *mt_control_user(char *buf, uid_t uid)
{
	char strings[16384];
	struct passwd entry;
	struct passwd *found = NULL;

	if (getpwuid_r(uid, &entry, strings, sizeof(strings), &found) != 0 || found == NULL ||
		snprintf(buf, MT_USER_TEXT_MAX, "%s", found->pw_name) >= MT_USER_TEXT_MAX) {
		(void)snprintf(buf, MT_USER_TEXT_MAX, "%lu", (unsigned long)uid); /* always fits */
	}
	return buf;
}

static gid_t group_id(const char *name)
{
	char buf[16384];
	struct group group;
	struct group *found = NULL;

	return getgrnam_r(name, &group, buf, sizeof(buf), &found) == 0 && found != NULL
		       ? found->gr_gid
		       : (gid_t)-1;
}

int mt_control_identify(int fd, enum mt_rights *rights, uid_t *uid, pid_t *pid)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	gid_t *groups = NULL;
	struct mt_credentials peer;
	int rv = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) {
		return -errno;
	}
	len = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) != 0 && errno != ERANGE) {
		len = 0; /* kernels before 4.13: the primary group alone */
	}
	if (len > GROUPS_MAX * sizeof(gid_t)) {
		return MT_E_LIMIT;
	}
	groups = malloc(len + sizeof(gid_t));
	if (groups == NULL) {
		return -ENOMEM;
	}
	/* The groups are those of the moment of connecting; they cannot have grown since. */
	if (len > 0 && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) != 0) {
		rv = -errno;
		goto out;
	}
	peer.uid = cred.uid;
	peer.groups = groups;
	peer.group_count = len / sizeof(gid_t);
	groups[peer.group_count++] = cred.gid;
	*uid = cred.uid;
	*pid = cred.pid;
	if (peer.uid == 0 || peer.uid == geteuid()) {
		*rights = MT_RIGHTS_ADMIN; /* without opening the group file: it works with no
					      descriptor left */
	} else {
		*rights = mt_control_rights(
			&peer, geteuid(), group_id(MT_ADMIN_GROUP), group_id(MT_READ_GROUP));
	}
out:
	free(groups);
	return rv;
}

bool mt_control_has_hung_up(int fd)
{
	struct pollfd look = {.fd = fd};

	return poll(&look, 1, 0) == 1 && (look.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

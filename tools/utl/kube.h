/* tools/utl/kube.h - recognises what Kubernetes keeps in etcd: keys /registry/TYPE/[NAMESPACE/]NAME
 * and values, in protobuf behind "k8s\0" or in JSON, of which kind, version and metadata are read
 * by walking their fields. Any bytes may come; what is not understood is not recognised. */
#ifndef TOOLS_UTL_KUBE_H
#define TOOLS_UTL_KUBE_H
#include "base/arena.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct kube_key {
    struct slice group; /* of a custom resource's type: /registry/GROUP/TYPE/..; else empty */
    struct slice type, namespace, name; /* namespace: empty for what has none */
};
/* False: not such a key. The slices are borrowed from key. */
bool kube_key_read(struct slice key, struct kube_key *out);

enum kube_form {
    KUBE_NONE,
    KUBE_PROTOBUF,
    KUBE_JSON,
    KUBE_ENCRYPTED, /* "k8s:enc:<provider>:v1:<key name>:" and bytes; provider is set */
};

#define KUBE_PAIRS_MAX 32U /* labels, finalizers, owners that are kept of each object */

struct kube_pair {
    struct slice key, value;
};

struct kube_object {
    enum kube_form form;
    struct slice provider;
    struct slice api_version, kind;
    struct slice name, generate_name, namespace, uid;
    int64_t generation;
    int64_t created_s, deleted_s;  /* since 1970; 0: not set, or (JSON) see the texts */
    struct slice created, deleted; /* JSON's own texts */
    struct kube_pair labels[KUBE_PAIRS_MAX], owners[KUBE_PAIRS_MAX]; /* owners: kind, name */
    struct slice finalizers[KUBE_PAIRS_MAX];
    uint32_t labels_count, owners_count, finalizers_count, annotations_count;
};
/* False: nothing of Kubernetes' was recognised. The slices are borrowed from value, or of JSON from
 * the arena. */
bool kube_object_read(struct slice value, struct arena *arena, struct kube_object *out);
#endif

/* Keys and values of Kubernetes are recognised, and nothing else is. */
#include "tools/utl/kube.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void expect_key(const char *key, const char *group, const char *type, const char *namespace,
                       const char *name)
{
    struct kube_key got;
    assert_true(kube_key_read(slice_from_str(key), &got));
    assert_true(slice_eq(got.group, slice_from_str(group)));
    assert_true(slice_eq(got.type, slice_from_str(type)));
    assert_true(slice_eq(got.namespace, slice_from_str(namespace)));
    assert_true(slice_eq(got.name, slice_from_str(name)));
}

static void test_kube_reads_keys(void **state)
{
    (void)state;
    struct kube_key got;
    expect_key("/registry/pods/default/web", "", "pods", "default", "web");
    expect_key("/registry/namespaces/default", "", "namespaces", "", "default");
    expect_key("/registry/services/specs/default/web", "", "services", "default", "web");
    expect_key("/registry/example.org/things/ns/one", "example.org", "things", "ns", "one");
    expect_key("/registry/apiregistration.k8s.io/apiservices/v1.apps", "apiregistration.k8s.io",
               "apiservices", "", "v1.apps");
    static const char *const others[] = {"",
                                         "/registry",
                                         "/registry/",
                                         "/registry/pods",
                                         "/other/pods/default/web",
                                         "/registry/a/b/c/d/e/f"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_false(kube_key_read(slice_from_str(others[i]), &got));
}

static const uint8_t pod[] = "k8s\0"
                             "\x0a\x09\x0a\x02v1\x12\x03Pod"
                             "\x12\x21\x0a\x1f"
                             "\x0a\x03web\x1a\x02ns\x2a\x01u\x38\x05\x42\x02\x08\x07"
                             "\x5a\x08\x0a\x03"
                             "app\x12\x01x\x72\x01"
                             "f";

static void test_kube_reads_objects_in_protobuf(void **state)
{
    (void)state;
    struct arena arena;
    struct kube_object got;
    arena_init(&arena, 1 << 20);
    struct slice value = slice_make(pod, sizeof(pod) - 1);
    assert_true(kube_object_read(value, &arena, &got));
    assert_int_equal(got.form, KUBE_PROTOBUF);
    assert_true(slice_eq(got.api_version, SLICE("v1")));
    assert_true(slice_eq(got.kind, SLICE("Pod")));
    assert_true(slice_eq(got.name, SLICE("web")));
    assert_true(slice_eq(got.namespace, SLICE("ns")));
    assert_true(slice_eq(got.uid, SLICE("u")));
    assert_int_equal(got.generation, 5);
    assert_int_equal(got.created_s, 7);
    assert_int_equal(got.labels_count, 1);
    assert_true(slice_eq(got.labels[0].key, SLICE("app")));
    assert_true(slice_eq(got.labels[0].value, SLICE("x")));
    assert_int_equal(got.finalizers_count, 1);
    for (size_t len = 0; len < value.len; len++) /* ends in peace */
        (void)kube_object_read(slice_make(value.data, len), &arena, &got);
    arena_deinit(&arena);
}

static void test_kube_reads_objects_in_json(void **state)
{
    (void)state;
    struct arena arena;
    struct kube_object got;
    arena_init(&arena, 1 << 20);
    assert_true(kube_object_read(
        SLICE("{\"apiVersion\":\"a/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"one\","
              "\"creationTimestamp\":\"2024-01-01T00:00:00Z\",\"labels\":{\"a\":\"b\"},"
              "\"managedFields\":[{\"x\":1}]},\"spec\":{\"list\":[1,2,3]}}"),
        &arena, &got));
    assert_int_equal(got.form, KUBE_JSON);
    assert_true(slice_eq(got.kind, SLICE("Thing")));
    assert_true(slice_eq(got.name, SLICE("one")));
    assert_true(slice_eq(got.created, SLICE("2024-01-01T00:00:00Z")));
    assert_int_equal(got.labels_count, 1);
    assert_true(kube_object_read(SLICE("k8s:enc:aescbc:v1:key1:\x01\x02"), &arena, &got));
    assert_int_equal(got.form, KUBE_ENCRYPTED);
    assert_true(slice_eq(got.provider, SLICE("aescbc")));
    assert_false(kube_object_read(SLICE("{\"kind\":\"x\"}"), &arena, &got));
    assert_false(kube_object_read(SLICE("plain"), &arena, &got));
    assert_false(kube_object_read(SLICE_EMPTY, &arena, &got));
    arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kube_reads_keys),
        cmocka_unit_test(test_kube_reads_objects_in_protobuf),
        cmocka_unit_test(test_kube_reads_objects_in_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

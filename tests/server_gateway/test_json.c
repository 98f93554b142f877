/* Messages from and to JSON. What is expected was seen from etcd 3.5.15, texts of errors too. */
#include "proto/rpc.pb-c.h"
#include "server/gateway/decode.h"
#include "server/gateway/encode.h"
#include "server/gateway/json_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define RANGE (&etcdserverpb__range_request__descriptor)
#define PUT (&etcdserverpb__put_request__descriptor)
#define TXN (&etcdserverpb__txn_request__descriptor)
#define MEMBER_ADD (&etcdserverpb__member_add_request__descriptor)
#define USER_ADD (&etcdserverpb__auth_user_add_request__descriptor)
#define WATCH (&etcdserverpb__watch_request__descriptor)

static struct buf wire, json;

static int setup(void **state)
{
    (void)state;
    buf_init(&wire, SIZE_MAX);
    buf_init(&json, SIZE_MAX);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_deinit(&wire);
    buf_deinit(&json);
    return 0;
}

/* The first value of text as a message, in an error's words where it is none. */
static const char *decode(const char *text, const ProtobufCMessageDescriptor *descriptor)
{
    static struct json_error error;
    struct slice value;
    size_t size;
    buf_reset(&wire);
    enum status st = json_scan_next(slice_from_str(text), &value, &size, &error);
    if (st == ST_OK)
        st = gateway_decode(value, descriptor, &wire, &error);
    return st == ST_OK ? NULL : st == ST_NOT_FOUND ? "EOF" : error.text;
}

/* What is decoded from text, as JSON again. */
static void expect(const char *text, const ProtobufCMessageDescriptor *descriptor,
                   const char *wanted)
{
    const char *error = decode(text, descriptor);
    if (error != NULL)
        fail_msg("'%s' gives '%s'", text, error);
    buf_reset(&json);
    assert_int_equal(gateway_encode(buf_slice(&wire), descriptor, &json), ST_OK);
    assert_int_equal(buf_append(&json, slice_make("", 1)), ST_OK);
    assert_string_equal((const char *)json.data, wanted);
}

static void expect_error(const char *text, const ProtobufCMessageDescriptor *descriptor,
                         const char *wanted)
{
    const char *error = decode(text, descriptor);
    if (error == NULL)
        fail_msg("'%s' is accepted", text);
    else
        assert_string_equal(error, wanted);
}

static void test_decode_takes_names_in_both_forms(void **state)
{
    (void)state;
    const char *wanted = "{\"key\":\"YQ==\",\"range_end\":\"Yg==\",\"sort_order\":\"DESCEND\"}";
    expect("{\"key\":\"YQ==\",\"range_end\":\"Yg==\",\"sort_order\":2}", RANGE, wanted);
    expect("{\"key\":\"YQ==\",\"rangeEnd\":\"Yg==\",\"sortOrder\":\"DESCEND\"}", RANGE, wanted);
    expect(" { \"sort_order\" : 2 , \"\\u006bey\":\"YQ\\u003d=\",\n\"rangeEnd\" :\"Yg==\" } ",
           RANGE, wanted);
    /* lowerCamelCase goes first, whatever the order; else the last one counts. */
    expect("{\"rangeEnd\":\"Yg==\",\"range_end\":\"Yw==\"}", RANGE, "{\"range_end\":\"Yg==\"}");
    expect("{\"range_end\":\"Yg==\",\"range_end\":\"Yw==\"}", RANGE, "{\"range_end\":\"Yw==\"}");
    expect("{\"KEY\":\"x\",\"keys\":{\"key\":[1,{}]},\"\":null,\"Key\":\"\\\"\"}", RANGE, "{}");
    expect("{\"peerURLs\":[\"http://a\"],\"isLearner\":true}", MEMBER_ADD,
           "{\"peerURLs\":[\"http://a\"],\"isLearner\":true}");
}

static void test_decode_numbers(void **state)
{
    (void)state;
    expect("{\"limit\":5}", RANGE, "{\"limit\":\"5\"}");
    expect("{\"limit\":\" 5 \"}", RANGE, "{\"limit\":\"5\"}");
    expect("{\"limit\":\"-9223372036854775808\"}", RANGE, "{\"limit\":\"-9223372036854775808\"}");
    expect("{\"limit\":9223372036854775807}", RANGE, "{\"limit\":\"9223372036854775807\"}");
    expect("{\"limit\":-0,\"revision\":null,\"key\":null}", RANGE, "{}");
    expect("{\"sort_target\":-1}", RANGE, "{\"sort_target\":-1}");
    expect("{\"sort_target\":7}", RANGE, "{\"sort_target\":7}");
    expect("{\"serializable\":true,\"keys_only\":false,\"count_only\":null}", RANGE,
           "{\"serializable\":true}");
    expect_error("{\"limit\":9223372036854775808}", RANGE,
                 "json: cannot unmarshal number 9223372036854775808 into Go value of type int64");
    expect_error("{\"limit\":99999999999999999999}", RANGE,
                 "json: cannot unmarshal number 99999999999999999999 into Go value of type int64");
    expect_error("{\"limit\":1.5}", RANGE,
                 "json: cannot unmarshal number 1.5 into Go value of type int64");
    expect_error("{\"limit\":1e3}", RANGE,
                 "json: cannot unmarshal number 1e3 into Go value of type int64");
    expect_error("{\"limit\":{}}", RANGE,
                 "json: cannot unmarshal object into Go value of type int64");
    expect_error("{\"limit\":true}", RANGE,
                 "json: cannot unmarshal bool into Go value of type int64");
    expect_error("{\"limit\":\"\"}", RANGE, "unexpected end of JSON input");
    expect_error("{\"limit\":\"5x\"}", RANGE, "invalid character 'x' after top-level value");
    expect_error("{\"limit\":\"a\"}", RANGE,
                 "invalid character 'a' looking for beginning of value");
    expect_error("{\"serializable\":\"true\"}", RANGE,
                 "json: cannot unmarshal string into Go value of type bool");
    expect_error("{\"serializable\":1}", RANGE,
                 "json: cannot unmarshal number into Go value of type bool");
    expect_error("{\"sort_order\":\"FOO\"}", RANGE,
                 "unknown value \"\\\"FOO\\\"\" for enum etcdserverpb.RangeRequest.SortOrder");
    expect_error(
        "{\"sort_order\":99999999999}", RANGE,
        "json: cannot unmarshal number 99999999999 into Go value of type protoreflect.EnumNumber");
    expect_error("{\"sort_order\":[]}", RANGE,
                 "json: cannot unmarshal array into Go value of type protoreflect.EnumNumber");
}

static void test_decode_bytes_and_texts(void **state)
{
    (void)state;
    expect("{\"key\":\"Zg==\\n\",\"value\":\"\"}", PUT, "{\"key\":\"Zg==\"}");
    expect("{\"key\":[90,111]}", RANGE, "{\"key\":\"Wm8=\"}");
    expect("{\"key\":\"+/8=\"}", RANGE, "{\"key\":\"+/8=\"}");
    expect(
        "{\"name\":\"a<b>&\\u2028\\u00e9\\ud83d\\ude00\\ud83d\\t\\u0001\\\"\\/\"}", USER_ADD,
        "{\"name\":\"a\\u003cb\\u003e\\u0026\\u2028\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd\\t\\u0001"
        "\\\"/\"}");
    expect(
        "{\"name\":\"\xff\xc0\xaf\xed\xa0\x80x\"}", USER_ADD,
        "{\"name\":\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\"}");
    expect_error("{\"key\":\"\\u0041\xff\xff\xff\xff\xff\xff\xff\xff\"}", PUT,
                 "illegal base64 data at input byte 1");
    expect_error("{\"key\":\"Z\"}", PUT, "illegal base64 data at input byte 0");
    expect_error("{\"key\":\"Zg\"}", PUT, "illegal base64 data at input byte 0");
    expect_error("{\"key\":\"Zm9-\"}", PUT, "illegal base64 data at input byte 3");
    expect_error("{\"key\":\"Zg=\"}", PUT, "illegal base64 data at input byte 3");
    expect_error("{\"key\":\"Zg==Zg==\"}", PUT, "illegal base64 data at input byte 4");
    expect_error("{\"key\":\"Z=g=\"}", PUT, "illegal base64 data at input byte 1");
    expect_error("{\"key\":1}", PUT, "json: cannot unmarshal number into Go value of type []uint8");
    expect_error("{\"key\":[90,300]}", PUT,
                 "json: cannot unmarshal number 300 into Go value of type uint8");
    expect_error("{\"name\":1}", USER_ADD,
                 "json: cannot unmarshal number into Go value of type string");
}

static void test_decode_messages(void **state)
{
    (void)state;
    expect("null", RANGE, "{}");
    expect("{\"success\":[{\"request_range\":{\"key\":\"YQ==\"},\"requestPut\":{}}]}", TXN,
           "{\"success\":[{\"request_put\":{}}]}"); /* the last of a oneof */
    expect("{\"success\":[{\"request_range\":{\"key\":\"YQ==\"},\"requestPut\":null},null]}", TXN,
           "{\"success\":[{\"request_range\":{\"key\":\"YQ==\"}},{}]}");
    expect("{\"compare\":[{\"version\":\"0\",\"range_end\":\"AA==\"}]}", TXN,
           "{\"compare\":[{\"version\":\"0\",\"range_end\":\"AA==\"}]}");
    expect("{\"peerURLs\":[null,\"\"]}", MEMBER_ADD, "{\"peerURLs\":[\"\",\"\"]}");
    expect("{\"peerURLs\":[]}", MEMBER_ADD, "{}");
    expect("{\"create_request\":{\"filters\":[1,\"NOPUT\"]}}", WATCH,
           "{\"create_request\":{\"filters\":[\"NODELETE\",\"NOPUT\"]}}");
    expect("{\"progressRequest\":{}}", WATCH, "{\"progress_request\":{}}");
    expect_error("[]", RANGE,
                 "json: cannot unmarshal array into Go value of type map[string]json.RawMessage");
    expect_error("{\"compare\":{}}", TXN,
                 "json: cannot unmarshal object into Go value of type []json.RawMessage");
    expect_error("{\"compare\":[1]}", TXN,
                 "json: cannot unmarshal number into Go value of type map[string]json.RawMessage");
}

static void test_decode_nested_messages_are_bounded(void **state)
{
    (void)state;
    for (uint32_t levels = 45; levels < 55; levels++) {
        buf_reset(&json);
        for (uint32_t i = 0; i < levels; i++)
            assert_int_equal(buf_append(&json, SLICE("{\"success\":[{\"request_txn\":")), ST_OK);
        assert_int_equal(buf_append(&json, SLICE("{}")), ST_OK);
        for (uint32_t i = 0; i < levels; i++)
            assert_int_equal(buf_append(&json, SLICE("}]}")), ST_OK);
        assert_int_equal(buf_append(&json, slice_make("", 1)), ST_OK);
        const char *error = decode((const char *)json.data, TXN);
        if (2 * levels + 1 <= JSON_MESSAGES_DEPTH_MAX)
            assert_null(error);
        else
            assert_string_equal(error, "messages lie more than 100 deep");
    }
}

static void test_scan_names_what_is_wrong(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"", "EOF"},
        {" \n\t\r", "EOF"},
        {"{\"key\":\"Zm9v\"", "unexpected EOF"},
        {"{\"key\":\"Zm9v", "unexpected EOF"},
        {"{\"key\":-", "unexpected EOF"},
        {"{\"key\"", "unexpected EOF"},
        {"{", "unexpected EOF"},
        {"[1,", "unexpected EOF"},
        {"nul", "unexpected EOF"},
        {"{\"key\":\"Zm9v\",}", "invalid character '}' looking for beginning of object key string"},
        {"{x", "invalid character 'x' looking for beginning of object key string"},
        {"{\"key\" \"Zm9v\"}", "invalid character '\"' after object key"},
        {"{\"key\":\"Zm9v\" 1}", "invalid character '1' after object key:value pair"},
        {"{\"key\":[1 2]}", "invalid character '2' after array element"},
        {"{\"key\":tru}", "invalid character '}' in literal true (expecting 'e')"},
        {"{\"key\":\"\\x\"}", "invalid character 'x' in string escape code"},
        {"{\"key\":\"\\u12\"}", "invalid character '\"' in \\u hexadecimal character escape"},
        {"{\"key\":-}", "invalid character '}' in numeric literal"},
        {"{\"key\":1.}", "invalid character '}' after decimal point in numeric literal"},
        {"{\"key\":1e}", "invalid character '}' in exponent of numeric literal"},
        {"{\"key\":01}", "invalid character '1' after object key:value pair"},
        {"{\"key\":\"a\nb\"}", "invalid character '\\n' in string literal"},
        {"'", "invalid character '\\'' looking for beginning of value"},
        {"\x01", "invalid character '\\x01' looking for beginning of value"},
        {"\xff", "invalid character '\xc3\xbf' looking for beginning of value"},
        {"]", "invalid character ']' looking for beginning of value"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        expect_error(wrong[i][0], RANGE, wrong[i][1]);
}

static void test_scan_goes_as_deep_as_etcd(void **state)
{
    (void)state;
    for (uint32_t depth = JSON_DEPTH_MAX - 2; depth < JSON_DEPTH_MAX + 2; depth++) {
        buf_reset(&json);
        assert_int_equal(buf_append(&json, SLICE("{\"x\":")), ST_OK);
        for (uint32_t i = 0; i < depth; i++)
            assert_int_equal(buf_append(&json, SLICE("[")), ST_OK);
        for (uint32_t i = 0; i < depth; i++)
            assert_int_equal(buf_append(&json, SLICE("]")), ST_OK);
        assert_int_equal(buf_append(&json, slice_make("}", 2)), ST_OK);
        const char *error = decode((const char *)json.data, RANGE);
        if (depth < JSON_DEPTH_MAX)
            assert_null(error);
        else
            assert_string_equal(error, "invalid character '[' exceeded max depth");
    }
}

static void test_scan_takes_one_value_after_another(void **state)
{
    (void)state;
    struct slice rest = SLICE(" {\"a\":[1,{\"b\":\"]}\"}]}{}null 12 \"x\"[] ");
    static const char *const values[] = {
        "{\"a\":[1,{\"b\":\"]}\"}]}", "{}", "null", "12", "\"x\"", "[]"};
    struct json_error error;
    struct slice value;
    size_t size;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_int_equal(json_scan_next(rest, &value, &size, &error), ST_OK);
        assert_true(slice_eq(value, slice_from_str(values[i])));
        rest = slice_make(rest.data + size, rest.len - size);
    }
    assert_int_equal(json_scan_next(rest, &value, &size, &error), ST_NOT_FOUND);
}

static void test_encode_refuses_what_is_no_message(void **state)
{
    (void)state;
    static const struct slice bad[] = {SLICE("\x0a"),
                                       SLICE("\x0a\x05x"),
                                       SLICE("\x00\x01"),
                                       SLICE("\x08\x01"),
                                       SLICE("\x1a\x01x"),
                                       SLICE("\x0b\x0c"),
                                       SLICE("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        buf_reset(&json);
        assert_int_equal(gateway_encode(bad[i], RANGE, &json), ST_INVALID);
    }
    /* Fields that nobody knows are passed over. */
    buf_reset(&json);
    struct slice unknown = SLICE("\xa0\x06\x01\x0a\x01k\xa5\x06zzzz\xa1\x06zzzzzzzz\xa2\x06\x02zz");
    assert_int_equal(gateway_encode(unknown, RANGE, &json), ST_OK);
    assert_true(slice_eq(buf_slice(&json), SLICE("{\"key\":\"aw==\"}")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_decode_takes_names_in_both_forms, setup, teardown),
        cmocka_unit_test_setup_teardown(test_decode_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_decode_bytes_and_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_decode_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_decode_nested_messages_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_names_what_is_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_goes_as_deep_as_etcd, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_takes_one_value_after_another, setup, teardown),
        cmocka_unit_test_setup_teardown(test_encode_refuses_what_is_no_message, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

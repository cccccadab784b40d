//! What expressions give.

use super::evaluated;

fn check(table: &[(&str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(source, want)| {
            let (got, _) = evaluated(source);
            (got != *want).then(|| format!("{source}\n   wanted {want}\n   got    {got}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn operators() {
    check(&[
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3 - -4", "13"),
        ("7 / 2", "3"),
        ("-7 % 3", "-1"),
        ("7u / 2u", "3u"),
        ("1.5 + 2.0", "3.5"),
        ("9223372036854775807 + 1", "fault: integer overflow"),
        ("-9223372036854775808 - 1", "fault: integer overflow"),
        ("0u - 1u", "fault: unsigned integer overflow"),
        ("1 / 0", "fault: division by zero"),
        ("1 % 0", "fault: modulus by zero"),
        ("1.0 / 0.0 > 1e300", "true"),
        ("0x1F", "31"),
        ("-0x10", "-16"),
        ("'a' + \"b\" + '''c''' + r'\\d'", "\"abc\\\\d\""),
        ("'\\u00e9\\x41\\101\\n'", "\"\u{e9}AA\\n\""),
        ("b'a\\xff' == b'\\x61\\377'", "true"),
        ("[1, 2] + [3]", "[1,2,3]"),
        ("!true || !false", "true"),
        ("true ? 1 : 2", "1"),
        ("1 < 2 && 2u < 3u && 1.0 < 1.5 && 'a' < 'b' && false < true", "true"),
        ("1 < 1.5 && 2u > 1 && 1.0 <= 1 && 18446744073709551615u > 9223372036854775807", "true"),
        ("dyn(1) == 1.0 && dyn(1u) == 1 && dyn(1) != '1'", "true"),
        ("2 in [1, 2] && !('c' in ['a', 'b']) && 'one' in map && !(n in list)", "true"),
        ("null == null", "true"),
        ("{'a': [1, 2]} == {'a': [1, 2]} && [1] != [1, 2]", "true"),
        ("1 / 0 == 1 || true", "true"),
        ("true || 1 / 0 == 1", "true"),
        ("1 / 0 == 1 && false", "false"),
        ("1 / 0 == 1 && true", "fault: division by zero"),
        ("-(3)", "-3"),
        ("- -n", "7"),
        ("!!true", "true"),
        ("{'a': 1}.a + {'b': 2}['b']", "3"),
        ("{1: 'x'}[1] + {true: 'y'}[true] + {2u: 'z'}[2u]", "\"xyz\""),
        ("[1, 2, 3][1]", "2"),
        ("[1][1]", "fault: index out of bounds: 1"),
        ("{'a': 1}['b']", "fault: no such key: b"),
    ]);
}

#[test]
fn selections() {
    check(&[
        ("object.metadata.name", "\"a\""),
        ("object.metadata.labels['x']", "\"1\""),
        ("object.list[1]", "2.5"),
        ("object.list[3] == null", "true"),
        ("object.list[4].k[0]", "true"),
        ("object.spec", "fault: no such key: spec"),
        ("has(object.metadata) && !has(object.spec) && !has(object.metadata.name.x)", "true"),
        ("has(object.spec.x)", "fault: no such key: spec"),
        ("spec.replicas + n", "10"),
        ("spec.ratio == 1.0", "true"),
        ("spec.a__dash__b + spec.__namespace__", "\"abns\""),
        ("spec.tags.size() + size(spec.labels) + size('h\u{e9}')", "5"),
        ("spec.since.getFullYear() == 2024 && spec.since.getMonth() == 1 && spec.since.getDate() == 29", "true"),
        ("spec.since + spec.wait == timestamp('2024-02-29T14:00:45.5Z')", "true"),
        ("spec.any.x[0]", "1"),
        ("text", "\"h\u{e9}llo\""),
        (".n", "7"),
        ("object.?spec.?replicas.orValue(4)", "4"),
        ("object.?metadata.name", "some \"a\""),
        ("object.?metadata.?name.value()", "\"a\""),
        ("object.?spec", "none"),
        ("[1, 2][?5].hasValue()", "false"),
        ("object.metadata[?'name'].optMap(x, x + '!')", "some \"a!\""),
        ("object.?spec.optMap(x, 1)", "none"),
        ("object.?metadata.optFlatMap(m, m.?name)", "some \"a\""),
        ("optional.none().or(optional.of(1)).value()", "1"),
        ("optional.none().value()", "fault: optional.none() dereference"),
        ("optional.ofNonZeroValue('')", "none"),
        ("optional.ofNonZeroValue('x')", "some \"x\""),
        ("[?optional.of(1), ?optional.none(), 3]", "[1,3]"),
        ("{?'a': optional.none(), 'b': 1}", "{\"b\":1}"),
        ("[1, 2].first().value() + [1, 2].last().value()", "3"),
        ("optional.unwrap([optional.of(1), optional.none()])", "[1]"),
        ("type(1) == int && type('') == string && type([]) == type([1]) && type(type(1)) == type", "true"),
        ("type(n)", "int"),
        ("type(duration('1s')) == google.protobuf.Duration", "true"),
    ]);
}

#[test]
fn macros() {
    check(&[
        ("list.all(x, x > 0) && !list.exists(x, x > 3) && list.exists_one(x, x == 2)", "true"),
        ("list.map(x, x * 2)", "[6,2,4]"),
        ("list.map(x, x > 1, x * 2)", "[6,4]"),
        ("list.filter(x, x != 1)", "[3,2]"),
        ("map.filter(k, map[k] > 1)", "[\"two\"]"),
        ("[0, 1].all(x, 1 / x == 1)", "fault: division by zero"),
        ("[0, 2].all(x, 1 / x == 1)", "false"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("list.map(x, list.map(y, x * y).sum())", "[18,6,12]"),
        ("cel.bind(x, n + 1, x * x)", "64"),
        ("list.all(i, v, v > i - 3)", "true"),
        ("map.exists(k, v, k == 'one' && v == 1)", "true"),
        ("list.existsOne(i, v, v == 1)", "true"),
        ("list.transformList(i, v, i + v)", "[3,2,4]"),
        ("list.transformList(i, v, v > 1, v)", "[3,2]"),
        ("map.transformMap(k, v, v * 10)", "{\"one\":10,\"two\":20}"),
        ("map.transformMapEntry(k, v, {string(v): k})", "{\"1\":\"one\",\"2\":\"two\"}"),
        ("map.transformMapEntry(k, v, {'a': k})", "fault: insert failed: key a already exists"),
        ("[1, 2].map(x, [x, x])", "[[1,1],[2,2]]"),
        ("object.list.exists(x, x == 'c')", "true"),
        ("object.metadata.all(k, k in ['name', 'labels'])", "true"),
        (
            "text.all(x, true)",
            "does not compile: ERROR: <input>:1:1: expression of type 'string' cannot be range of a comprehension (must be list, map, or dynamic)\n | text.all(x, true)\n | ^",
        ),
    ]);
}

#[test]
fn conversions() {
    check(&[
        ("int('-12') + int(3.9) + int(4u)", "-5"),
        ("int(text)", "fault: strconv.ParseInt: parsing \"h\u{e9}llo\": invalid syntax"),
        ("int('x')", "does not compile: strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("int(object.list[1] * 1e19)", "fault: integer overflow"),
        ("uint(n - 8)", "fault: unsigned integer overflow"),
        ("double('1.5') + double(2)", "3.5"),
        ("string(1) + string(2u) + string(1.5) + string(true) + string(b'x')", "\"121.5truex\""),
        (
            "string(1e6) + ' ' + string(100000.0) + ' ' + string(1e-7) + ' ' + string(0.0001)",
            "\"1e+06 100000 1e-07 0.0001\"",
        ),
        ("string(duration('1h1m1.5s'))", "\"3661.5s\""),
        ("string(timestamp('2024-01-02T03:04:05.120+01:00'))", "\"2024-01-02T02:04:05.12Z\""),
        ("bool('t') && !bool('False')", "true"),
        ("bytes('abc') == b'abc'", "true"),
        ("duration('90m').getHours() + duration('90m').getMinutes()", "91"),
        ("timestamp('2024-01-01T00:00:00Z').getDayOfWeek('America/New_York')", "0"),
        ("timestamp('2024-01-01T00:00:00Z').getHours('+05:30')", "5"),
        ("timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')", "true"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s')", "fault: timestamp overflow"),
        ("timestamp(0)", "\"1970-01-01T00:00:00Z\""),
        ("int(timestamp('1970-01-01T00:01:00Z'))", "60"),
        ("duration('-1.5h') < duration('0')", "true"),
    ]);
}

#[test]
fn strings() {
    check(&[
        ("'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')", "true"),
        ("'abc123'.matches('^[a-z]+\\\\d+$') && matches('a', 'a|b')", "true"),
        ("'\u{661}'.matches('\\\\d')", "false"),
        ("text.charAt(1) + text.charAt(5)", "\"\u{e9}\""),
        ("text.charAt(6)", "fault: index out of range: 6"),
        ("'hello'.indexOf('l') + 10 * 'hello'.lastIndexOf('l') + 100 * 'hello'.indexOf('z')", "-68"),
        ("'hello'.indexOf('l', 3) + 10 * 'hello'.lastIndexOf('l', 2)", "23"),
        ("'aBc'.lowerAscii() + 'aBc'.upperAscii()", "\"abcABC\""),
        ("'aaa'.replace('a', 'b', 2) + 'aaa'.replace('a', '')", "\"bba\""),
        (
            "'a,b,c'.split(',') + 'a,b,c'.split(',', 2) + 'ab'.split('')",
            "[\"a\",\"b\",\"c\",\"a\",\"b,c\",\"a\",\"b\"]",
        ),
        ("'abc'.split('', 2)", "[\"a\",\"bc\"]"),
        ("'abc'.split(',', 0)", "[]"),
        ("text.substring(1, 3) + text.substring(4)", "\"\u{e9}lo\""),
        ("'abc'.substring(2, 1)", "fault: invalid substring range. start: 2, end: 1"),
        ("'  a '.trim()", "\"a\""),
        ("strings.join() + ''", "\"ba\""),
        ("strings.join('-')", "\"b-a\""),
        ("strings.quote('a\"b\\n')", "\"\\\"a\\\\\\\"b\\\\n\\\"\""),
        ("'abc 123'.find('[0-9]+') + 'abc'.find('x')", "\"123\""),
        ("'1a22b3'.findAll('[0-9]+') + '1a22b3'.findAll('[0-9]+', 1)", "[\"1\",\"22\",\"3\",\"1\"]"),
        ("text.find('(')", "fault: Illegal regex: error parsing regexp: invalid syntax: `(`"),
        (
            "'%s is %d, %.2f, %b %x %X %o %%'.format([dyn('a'), dyn(5), dyn(1234.567), dyn(5), dyn(255), dyn('hi'), dyn(8)])",
            "\"a is 5, 1,234.57, 101 ff 6869 10 %\"",
        ),
        (
            "'%s %s %s'.format([dyn([dyn(1), dyn('a'), dyn(1.5)]), dyn({'k': null}), dyn(duration('1m'))])",
            "\"[1, \\\"a\\\", 1.500000] {\\\"k\\\":null} 60s\"",
        ),
        (
            "'%d'.format([dyn('a')])",
            "fault: error during formatting: decimal clause can only be used on integers, was given string",
        ),
        (
            "'%s %s'.format([1])",
            "does not compile: ERROR: <input>:1:15: index 1 out of range\n | '%s %s'.format([1])\n | ..............^",
        ),
        (
            "'%d'.format(['a'])",
            "does not compile: ERROR: <input>:1:14: error during formatting: decimal clause can only be used on integers, was given string\n | '%d'.format(['a'])\n | .............^",
        ),
        (
            "'%s'.format([1, 2])",
            "does not compile: ERROR: <input>:1:12: too many arguments supplied to string.format (expected 1, got 2)\n | '%s'.format([1, 2])\n | ...........^",
        ),
    ]);
}

#[test]
fn lists_and_sets() {
    check(&[
        ("[1, 2, 2].isSorted() && !list.isSorted() && [].isSorted()", "true"),
        ("list.sum() + list.max() * 10 + list.min() * 100", "136"),
        ("[1.5, 2.5].sum()", "4.0"),
        ("[duration('1s'), duration('2s')].sum() == duration('3s')", "true"),
        ("list.filter(x, false).sum() == 0", "true"),
        ("list.filter(x, false).max()", "fault: max called on empty list"),
        ("list.indexOf(2) + 10 * [1, 2, 1].lastIndexOf(1) + 100 * list.indexOf(9)", "-78"),
        ("sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 1, 2], [2, 1]) && !sets.intersects([1], [2])", "true"),
        ("list.sort() + strings.sort().map(s, size(s))", "[1,2,3,1,1]"),
        ("strings.sortBy(s, s)", "[\"a\",\"b\"]"),
        ("list.slice(1, 3) + list.reverse() + lists.range(2)", "[1,2,2,1,3,0,1]"),
        ("list.slice(2, 9)", "fault: cannot slice(2, 9), list is length 3"),
        ("[1, 2, 1.0 == 1.0 ? 2 : 3].distinct()", "[1,2]"),
        ("[[1], [2, 3]].flatten()", "[1,2,3]"),
        ("[dyn([1, 2])].flatten(1)", "[1,2]"),
    ]);
}

#[test]
fn libraries() {
    check(&[
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('50k').asInteger() == 50000", "true"),
        ("quantity('1Gi') == quantity('1024Mi') && isQuantity('1.5') && !isQuantity('1.x')", "true"),
        ("quantity('50k').add(quantity('20k')).sub(20000) == quantity('50k') && sign(quantity('-1')) == -1", "true"),
        ("quantity('1.5').compareTo(quantity('1')) == 1 && quantity('1500m').asApproximateFloat() == 1.5", "true"),
        ("quantity('500m').asInteger()", "fault: cannot convert value to integer"),
        (
            "quantity('x')",
            "fault: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("url('https://u:p@Example.com:80/a%20b?x=1&x=2&y=#f').getHost()", "\"Example.com:80\""),
        ("url('https://[::1]:80/').getHostname() + url('https://a:80/p').getPort()", "\"::180\""),
        ("url('https://a/b c?x=1').getEscapedPath() + url('/p').getScheme()", "\"/b%20c\""),
        ("url('https://a/?x=1&x=2&y=').getQuery()", "{\"x\":[\"1\",\"2\"],\"y\":[\"\"]}"),
        ("isURL('https://a') && isURL('/a') && !isURL('a') && !isURL('../a') && !isURL('')", "true"),
        ("url('a')", "fault: URL parse error during conversion from string: parse \"a\": invalid URI for request"),
        ("ip('10.0.0.1').family() + ip('::1').family()", "10"),
        ("isIP('::1') && !isIP('1.2.3') && !isIP('::ffff:1.2.3.4') && ip.isCanonical('2001:db8::abcd')", "true"),
        (
            "ip('127.0.0.1').isLoopback() && ip('0.0.0.0').isUnspecified() && ip('169.254.0.1').isLinkLocalUnicast()",
            "true",
        ),
        ("ip('8.8.8.8').isGlobalUnicast() && ip('224.0.0.1').isLinkLocalMulticast()", "true"),
        ("string(ip('::0:1')) + string(cidr('10.1.2.3/8').masked())", "\"::110.0.0.0/8\""),
        ("cidr('10.0.0.0/8').containsIP('10.1.1.1') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", "true"),
        (
            "cidr('10.0.0.0/8').prefixLength() == 8 && cidr('10.0.0.0/8').ip() == ip('10.0.0.0') && !isCIDR('10.0.0.0/33')",
            "true",
        ),
        ("type(ip('::1')) == net.IP", "true"),
        ("semver('1.2.3').major() + semver('1.2.3').minor() + semver('1.2.3').patch()", "6"),
        ("semver('1.0.0-alpha').isLessThan(semver('1.0.0')) && isSemver('v1.0', true) && !isSemver('v1.0')", "true"),
        ("semver('v01.1', true) == semver('1.1.0')", "true"),
        ("semver('1.2')", "fault: No Major.Minor.Patch elements found"),
        ("format.dns1123Label().validate('a-b').hasValue()", "false"),
        ("format.named('dns1123Label').value().validate('A').value().size()", "1"),
        ("format.named('nothing').hasValue()", "false"),
        ("format.uuid().validate('123e4567-e89b-12d3-a456-426614174000')", "none"),
        ("format.date().validate('2021-13-01')", "some [\"invalid date\"]"),
        ("format.datetime().validate('2021-01-01T00:00:00Z')", "none"),
        ("format.byte().validate('aGVsbG8=')", "none"),
        ("format.dns1123LabelPrefix().validate('a-')", "none"),
        ("jsonpatch.escapeKey('a/b~c')", "\"a~1b~0c\""),
        (
            "[JSONPatch{op: 'add', path: '/a', value: Object.spec{replicas: 3}}]",
            "[{\"op\":\"add\",\"path\":\"/a\",\"value\":{\"replicas\":3}}]",
        ),
        ("Object{spec: Object.spec{template: Object.spec.template{x: 1}}}", "{\"spec\":{\"template\":{\"x\":1}}}"),
    ]);
}

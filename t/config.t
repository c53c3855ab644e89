# What nginx -t says: each mistake in the configuration stops it with one
# message that names the directive, the value and what to write instead, and
# the line; and what is right is accepted.

use strict;
use warnings;

use File::Temp;
use Test::More;

my $dir = File::Temp->newdir();
my $conf = "$dir/nginx.conf";

my $internal = 'trace_exporter internal { endpoint unix:/s; }';
my $user = 'trace_exporter user { endpoint unix:/s; routing_header x-t; }';
my $exporters = "$internal $user";

my $on = 'trace internal on; trace user on; trace_routing $http_x_tenant;';
my $apart = 'trace_context internal propagate header=x-op-traceparent;';

my $mode = 'write "ignore", "extract", "inject" or "propagate"';
my $decision = 'write "on", "off", "parent", "ratio=0.1", "rate=100r/s" or a'
    . ' variable';
my $user_decision = 'write "on", "off" or a variable';
my $ratio = 'write a number from 0 to 1, as "ratio=0.1"';
my $rate = 'write requests a second or a minute, as "rate=100r/s" or'
    . ' "rate=10r/m"';
my $address = 'write an address, a network as "192.0.2.0/24", "unix:", "all" or'
    . ' "if=$variable"';
my $unix_or_http = 'write "unix:/path" or "http://host:port"; for https, let a'
    . ' collector beside nginx send it on';
my $host_and_port = 'write a host that has an address when nginx starts, and a'
    . ' port of 1 to 65535';
my $prefix = 'write letters, digits and "-" in front of "traceparent", as'
    . ' "header=x-op-traceparent"';
my $ascii = 'write printable ASCII without spaces';
my $one_line = 'in "trace_exporter", write printable ASCII on one line';
my $name = 'in "trace_exporter", write letters, digits and "-"';
my $path = 'write one that starts with "/", as "/v1/traces"';
my $events_path = 'in "trace_exporter", write one that starts with "/", as'
    . ' "/v1/logs"';
my $needs_path = '"trace_events" needs the path that logs go to: write'
    . ' "events_path /v1/logs;" in "trace_exporter';
my $header_parameter = 'write "header=x-op-traceparent", "from=$variable" or'
    . ' "to=name"';
my $from = 'write a variable, as "from=$http_x_user_context"';
my $to = 'write names of upstreams, as "to=backend", or "to=all"';
my $keep = 'write a variable, as "trace_keep $failed", or "off"';
my $response = 'write "off", "server-timing" or "traceresponse"';
my $parameter = 'write "if=$variable" or "type=int"';
my $one_of = 'write "internal" or "user"';
my $one_or_both = 'write "internal", "user" or "both"';
my $arguments = 'invalid number of arguments in';
my $known = 'write endpoint, header, routing_header, queue, batch_size,'
    . ' interval, connections, timeout, retry_time, compression, events_path,'
    . ' events_queue or include';
my $long = 'x' x 3900;

# on the line of the http block that is given, or at its end
sub here { "$_[0] in $conf:6" }
sub end { "$_[0] in $conf:" . (6 + $_[1]) }


# messages, by the line of an http block with both exporters

is(message("$exporters $_->[0]"), here($_->[1]), $_->[0]) for (
    ['trace;', "$arguments \"trace\" directive"],
    ['trace internal;', "$arguments \"trace\" directive"],
    ['trace both on;', qq{invalid pipeline "both" in "trace", $one_of}],
    ['trace "" on;', qq{invalid pipeline "" in "trace", $one_of}],
    ['trace internals on;',
     qq{invalid pipeline "internals" in "trace", $one_of}],
    (map { ["trace internal $_;",
            qq{invalid value "$_" in "trace internal", $decision}] }
        qw(yes ON 1 0 parents ratio rate Ratio=0.1 x$host $ $a$b $a-b)),
    ['trace internal "";',
     qq{invalid value "" in "trace internal", $decision}],
    ['trace internal parent yes;',
     qq{invalid value "yes" in "trace internal", $decision}],
    (map { ["trace internal 'ratio=$_';",
            qq{invalid ratio "$_" in "trace internal", $ratio}] }
        '', qw(2 -1 -0.1 0x1 nan inf 1.0000001 1e-30 1e 0.1x . x), '1 ', ' 1',
        '0.1,0.2', '1/10', '10%'),
    (map { ["trace internal 'rate=$_';",
            qq{invalid rate "$_" in "trace internal", $rate}] }
        '', qw(10 r/s 0r/s 0r/m -1r/s 1r/h 1r 1r/ 10r/S 1r/ss 1.5r/s xr/s
               9999999999r/s 99999999999999999999r/m), '1 r/s'),
    (map { my ($alone, $word) = @$_;
           ["trace internal $alone $word;", qq{"$alone" in "trace internal"}
            . qq{ stands alone, leave it or "$word" out}] }
        ['on', 'ratio=0.1'], ['on', 'parent'], ['on', 'rate=1r/s'],
        ['on', '$host'], ['off', 'ratio=0.1'], ['off', 'parent']),
    (map { my ($first, $second) = @$_;
           ["trace internal $first parent $second;",
            qq{duplicate "$second" in "trace internal", leave it out}] }
        ['ratio=0.1', 'ratio=0.2'], ['rate=1r/s', 'rate=1r/s'],
        ['$host', '$uri'], ['ratio=1', 'parent']),
    (map { ["trace user $_;",
            qq{invalid value "$_" in "trace user", $user_decision}] }
        qw(maybe yes 1 x$host)),
    (map { ["trace user $_;", qq{invalid value "$_" in "trace user": what}
            . " users ask for is not sampled, $user_decision"] }
        qw(ratio=0.1 ratio=2 parent rate=100r/s)),
    ['trace user on; trace user off;', '"trace" directive is duplicate'],
    ['trace internal on; trace internal off;',
     '"trace" directive is duplicate'],

    ['trace_context internal;', "$arguments \"trace_context\" directive"],
    ['trace_context both ignore;',
     qq{invalid pipeline "both" in "trace_context", $one_of}],
    ['trace_context internal foo;',
     qq{invalid mode "foo" in "trace_context internal", $mode}],
    ['trace_context user "";',
     qq{invalid mode "" in "trace_context user", $mode}],
    (map { ["trace_context internal propagate $_;",
            qq{invalid parameter "$_" in "trace_context internal",}
            . " $header_parameter"] }
        qw(x-op-traceparent headers=traceparent Header=traceparent for=all)),
    (map { my ($first, $second) = @$_;
           ["trace_context internal $first $second;", qq{duplicate "$second"}
            . ' in "trace_context internal", leave it out'] }
        ['extract', 'inject'], ['extract', 'extract'], ['to=all', 'to=all'],
        ['header=traceparent', 'header=traceparent'],
        ['from=$http_a', 'from=$http_b']),
    (map { ["trace_context user 'from=$_';",
            qq{invalid parameter "from=$_" in "trace_context user", $from}] }
        '', 'abc'),
    (map { my $value = $_; map { my ($directive, $word) = @$_;
        ["$directive user '$word=$value';",
         qq{"$value" in "$directive" is a variable of this module, write one}
         . ' that a header, a "map" or a script sets'] }
            ['trace_context', 'from'], ['trace_trusted', 'if'] }
        (map { ("\$internal_$_", "\$user_$_") }
            qw(traceparent tracestate trace_id span_id parent_id sampled
               parent_sampled)),
        '${internal_traceparent}', '00-$http_x-$user_span_id-01'),
    (map { ["trace_context user $_ from=\$http_x;",
            qq{"from=\$http_x" in "trace_context user" beside "$_", which}
            . ' reads nothing, write "propagate" or leave it out'] }
        qw(inject ignore)),
    (map { ["trace_context internal 'to=$_';",
            qq{invalid parameter "to=$_" in "trace_context internal", $to}] }
        '', ',', 'a,', ',a', 'a,,b'),
    (map { ["trace_context internal propagate 'header=$_';",
            qq{invalid header "$_" in "trace_context", $prefix}] }
        '', 'x-trace', 'x_traceparent', 'x traceparent', 'traceparent-x',
        "x\xc3\xa9-traceparent", '$host-traceparent'),
    ['trace_context user ignore; trace_context user extract;',
     '"trace_context" directive is duplicate'],

    ['trace_trusted internal;', "$arguments \"trace_trusted\" directive"],
    ['trace_trusted both all;',
     qq{invalid pipeline "both" in "trace_trusted", $one_of}],
    (map { ["trace_trusted user 127.0.0.1 $_;",
            qq{invalid address "$_" in "trace_trusted", $address}] }
        qw(foo off localhost unix unix:/s $remote_addr 10.0.0.0/33 [::1]
           192.0.2.1:80 192.0.2)),
    ['trace_trusted user "";',
     qq{invalid address "" in "trace_trusted", $address}],
    (map { ["trace_trusted user $_;",
            qq{network "$_" in "trace_trusted" has bits behind its mask,}
            . ' write the first address of the network or a longer mask'] }
        qw(10.0.0.1/8 2001:db8::1/64)),
    (map { ["trace_trusted user $_;",
            qq{invalid parameter "if=1" in "trace_trusted", write one}
            . ' "if=$variable"'] }
        'if=1', 'all if=1'),
    ['trace_trusted user if=$host if=$uri;',
     'invalid parameter "if=$uri" in "trace_trusted", write one'
     . ' "if=$variable"'],
    ['trace_trusted user realip;',
     'no address before "realip" in "trace_trusted", write the networks of'
     . ' the clients that are believed'],
    ['trace_trusted user all; trace_trusted user unix:;',
     '"trace_trusted" directive is duplicate'],

    ['trace_routing;', "$arguments \"trace_routing\" directive"],
    ['trace_routing a b;', "$arguments \"trace_routing\" directive"],
    ['trace_routing a; trace_routing b;',
     '"trace_routing" directive is duplicate'],

    ['trace_default_attributes user some;',
     qq{invalid value "some" in "trace_default_attributes user", write "all",}
     . ' "minimal" or "none"'],
    ['trace_default_attributes both all;',
     'invalid pipeline "both" in "trace_default_attributes", write "internal"'
     . ' or "user"'],
    ['trace_default_attributes user all; trace_default_attributes user none;',
     '"trace_default_attributes" directive is duplicate'],
    ['trace_default_attributes user;',
     "$arguments \"trace_default_attributes\" directive"],
    (map { ["$_ a b c;", "$arguments \"$_\" directive"] }
        qw(trace_upstream trace_events trace_subrequests trace_error_log
           trace_response_header trace_keep)),
    (map { ["$_ off; $_ both;", "\"$_\" directive is duplicate"] }
        qw(trace_upstream trace_events)),
    (map { my $directive = $_; map { ["$directive $_;",
            qq{invalid value "$_" in "$directive", write "internal", "user",}
            . ' "both" or "off"'] } qw(on users OFF $host) }
        qw(trace_upstream trace_events)),
    ['trace_subrequests internal;', 'invalid value "internal" in'
     . ' "trace_subrequests" directive, it must be "on" or "off"'],
    ['trace_subrequests on; trace_subrequests off;',
     '"trace_subrequests" directive is duplicate'],
    (map { ["trace_response_header $_;",
            qq{invalid value "$_" in "trace_response_header", $response}] }
        qw(on traceparent $host)),
    ['trace_response_header traceresponse both;',
     qq{invalid pipeline "both" in "trace_response_header", $one_of}],
    ['trace_response_header off; trace_response_header traceresponse;',
     '"trace_response_header" directive is duplicate'],
    (map { ["trace_error_log $_;", qq{invalid value "$_" in "trace_error_log",}
            . ' write "internal", "user" or "off"'] } qw(on both $host)),
    ['trace_error_log off; trace_error_log user;',
     '"trace_error_log" directive is duplicate'],

    ['trace_keep;', "$arguments \"trace_keep\" directive"],
    (map { ["trace_keep '$_';", qq{invalid value "$_" in "trace_keep", $keep}] }
        '', qw(yes on 1 0 OFF)),
    ['trace_keep $host; trace_keep off;',
     '"trace_keep" directive is duplicate'],

    ['trace_control_header;',
     "$arguments \"trace_control_header\" directive"],
    (map { ["trace_control_header x '$_';", qq{invalid header "$_" in}
            . ' "trace_control_header", write letters and digits, with "-"'
            . ' between them'] }
        '', 'a b', 'a:', 'a_b', '-a', '$host', "\xc3\xa9"),
    (map { ["trace_control_header $_;", '"off" in "trace_control_header"'
            . ' stands alone, leave it or "x" out'] } 'off x', 'x off'),
    ['trace_control_header x; trace_control_header y;',
     '"trace_control_header" directive is duplicate'],

    ['trace_span_name;', "$arguments \"trace_span_name\" directive"],
    ['trace_span_name foo x;',
     qq{invalid pipeline "foo" in "trace_span_name", $one_or_both}],
    (map { ["trace_span_name $_;",
            qq{no value behind "$_" in "trace_span_name", write one, or}
            . qq{ "both $_" if that is the value}] } qw(internal user both)),
    ['trace_span_name a; trace_span_name user b;',
     '"trace_span_name" directive is duplicate'],

    ['trace_attribute user a;', "$arguments \"trace_attribute\" directive"],
    ['trace_attribute user a b if=$uri type=int x;',
     "$arguments \"trace_attribute\" directive"],
    ['trace_attribute foo a b;',
     qq{invalid pipeline "foo" in "trace_attribute", $one_or_both}],
    (map { ["trace_attribute both '$_' x;",
            qq{invalid name "$_" in "trace_attribute", $ascii}] }
        '', 'a b', "a\tb", "caf\xc3\xa9", "a\x7f"),
    ['trace_attribute user a b type=foo;', 'invalid type "foo" in'
     . ' "trace_attribute", write "string", "int", "double" or "bool"'],
    ['trace_attribute user a b type=;', 'invalid type "" in'
     . ' "trace_attribute", write "string", "int", "double" or "bool"'],
    (map { ["trace_attribute user a b $_;",
            qq{invalid parameter "$_" in "trace_attribute", $parameter}] }
        qw(if= if foo=1 Type=int)),
    (map { ["trace_attribute user a $_ type=int;",
            qq{invalid value "$_" in "trace_attribute", write an integer, or}
            . ' leave "type=" out'] } qw(x 1.5 - 1e3 99999999999999999999)),
    (map { ["trace_attribute user a $_ type=double;",
            qq{invalid value "$_" in "trace_attribute", write a number, or}
            . ' leave "type=" out'] } qw(x 1.5x nan 0x10 . e)),
    ['trace_attribute user a b; trace_attribute user a c;',
     'duplicate "a" in "trace_attribute", leave one of the two out'],
    ['trace_attribute both a b; trace_attribute internal a c;',
     'duplicate "a" in "trace_attribute", leave one of the two out'],

    ['trace_service_name;', "$arguments \"trace_service_name\" directive"],
    ['trace_service_name "";',
     '"trace_service_name" directive needs a name that is not empty'],
    ['trace_service_name user "";',
     '"trace_service_name" directive needs a name that is not empty'],
    ['trace_service_name foo a;',
     qq{invalid pipeline "foo" in "trace_service_name", $one_or_both}],
    ['trace_service_name user;',
     'no value behind "user" in "trace_service_name", write one, or'
     . ' "both user" if that is the value'],
    ['trace_service_name a; trace_service_name user b;',
     '"trace_service_name" directive is duplicate'],

    ['trace_resource a;', "$arguments \"trace_resource\" directive"],
    ['trace_resource a b c d;', "$arguments \"trace_resource\" directive"],
    ['trace_resource foo a b;',
     qq{invalid pipeline "foo" in "trace_resource", $one_or_both}],
    (map { ["trace_resource '$_' x;",
            qq{invalid name "$_" in "trace_resource", $ascii}] }
        '', 'a b', "caf\xc3\xa9"),
    (map { ["trace_resource $_ service.name x;",
            '"trace_resource" directive cannot set service.name, write'
            . ' "trace_service_name"'] } 'user', 'both', ''),
    ['trace_resource a b; trace_resource both a c;',
     'duplicate "a" in "trace_resource", leave one of the two out'],

    ['trace_exporter internal { endpoint unix:/t; }',
     '"trace_exporter" directive is duplicate'],
);


# a "$" that names nothing

is(message("$exporters $_->[0] '$_->[1]';"), here('no name behind "$" in'
   . qq{ "$_->[2]" of "$_->[3]", write that of a variable}), "@$_[0, 1]") for (
    (map { ["trace_keep", $_, $_, 'trace_keep'] } '$', 'a$', '$status$-a'),
    ['trace_context user', 'from=$', '$', 'trace_context'],
    ['trace_trusted user', 'if=$', '$', 'trace_trusted'],
    ['trace_routing', '$', '$', 'trace_routing'],
    ['trace_span_name', '$', '$', 'trace_span_name'],
    ['trace_attribute user a', '$', '$', 'trace_attribute'],
    ["trace_attribute user a b", 'if=$', '$', 'trace_attribute'],
);


# variables that nobody has defined, on the line where they stand

for (['trace', 'internal $nosuch'], ['trace', 'user $nosuch; trace_routing x'],
     ['trace', 'internal parent ratio=0.1 $nosuch'],
     ['trace_trusted', 'internal if=$nosuch'],
     ['trace_context', 'user from=$nosuch'],
     (map { ['trace_keep', $_] } '$nosuch', '"$status$nosuch"'),
     (map { ['trace_routing', $_] } '$nosuch', '"a-$nosuch-b"'),
     (map { ['trace_span_name', $_] } '$nosuch', 'user "a ${nosuch}b"'),
     (map { ['trace_attribute', "user a $_"] } '$nosuch', '"$uri$nosuch"',
          'b if=$nosuch', 'b if=$uri$nosuch', '$nosuch type=int'))
{
    my ($directive, $parameters) = @$_;
    my $line = "$directive $parameters;";

    for (['http', 6, "$exporters $line"],
         ['the server', 7, $exporters, $line],
         ['a location', 8, $exporters, "\nlocation /a { $line }"],
         ['an if', 9, $exporters, "location /a {\n\nif (\$args) { $line } }"])
    {
        my ($where, $number, @conf) = @$_;

        is(message(@conf), qq{unknown variable "nosuch" in "$directive" in}
           . " $conf:$number, write one that nginx has, or define it with"
           . ' "map" or "set"', "$line in $where");
    }
}


# in the trace_exporter block

is(message("trace_exporter internal { endpoint unix:/s; $_->[0] }"),
   here($_->[1]), $_->[0]) for (
    ['endpoint unix:/t;', '"endpoint" in "trace_exporter" is duplicate'],
    ['endpoint;', '"endpoint" in "trace_exporter" takes 1 parameter'],
    ['endpoint a b;', '"endpoint" in "trace_exporter" takes 1 parameter'],
    ['header a;', '"header" in "trace_exporter" takes 2 parameters'],
    ['header a b c;', '"header" in "trace_exporter" takes 2 parameters'],
    (map { ["header '$_' x;", qq{invalid header name "$_" $name}] }
        '', 'a b', 'a:', "a\rb", "\xc3\xa9", 'a/b', '{a}'),
    (map { ["header a '$_';", qq{invalid value of header "a" $one_line}] }
        "b\rc", "b\tc", "\xc3\xa9", "\x7f"),
    (map { ["header $_ x;", qq{header "$_" in "trace_exporter" is the}
            . q{ exporter's own, leave it out}] }
        qw(host Content-Type CONTENT-LENGTH Content-Encoding User-Agent
           Transfer-Encoding connection expect upgrade)),
    ['queue 4m file=/f a;',
     '"queue" in "trace_exporter" takes 1 or 2 parameters'],
    (map { ["queue 4m $_;", qq{invalid parameter "$_" of queue in}
            . ' "trace_exporter", write "file=/path"'] } qw(/f file= File=/f)),
    (map { ["compression $_;", qq{invalid compression "$_" in}
            . ' "trace_exporter", write "off" or "gzip"'] } qw(on deflate)),
    ['compression off; compression off;',
     '"compression" in "trace_exporter" is duplicate'],
    ['retry_time x;',
     'invalid retry_time "x" in "trace_exporter", write a time, as "1s"'],
    ['queue 4m; queue 4m;', '"queue" in "trace_exporter" is duplicate'],
    (map { ["queue $_;", qq{invalid queue "$_" in "trace_exporter", write a}
            . ' size, as "4m"'] } qw(x -1 1g 4mb 99999999999999999999)),
    (map { ["events_path '$_';",
            qq{invalid events_path "$_" $events_path}] }
        '', 'logs', '/a b', "/a\rb: c", "/\xc3\xa9"),
    ['events_path /a; events_path /a;',
     '"events_path" in "trace_exporter" is duplicate'],
    (map { ["events_queue $_;", qq{invalid events_queue "$_" in}
            . ' "trace_exporter", write a size, as "4m"'] } qw(x -1 1g)),
    ['events_queue 4m; events_queue 4m;',
     '"events_queue" in "trace_exporter" is duplicate'],
    (map { ["$_ 4m file=/f;",
            qq{"$_" in "trace_exporter" takes 1 parameter}] }
        qw(events_path events_queue)),
    ['interval 1 s;', '"interval" in "trace_exporter" takes 1 parameter'],
    (map { ["interval $_;", qq{invalid interval "$_" in "trace_exporter",}
            . ' write a time, as "1s"'] } qw(x -1 1ns 1.5)),
    ['timeout x;',
     'invalid timeout "x" in "trace_exporter", write a time, as "1s"'],
    ['interval "";',
     'invalid interval "" in "trace_exporter", write a time, as "1s"'],
    (map { ["batch_size $_;", qq{invalid batch_size "$_" in "trace_exporter",}
            . ' write a number'] } qw(x -1 1k 99999999999999999999)),
    ['connections x;',
     'invalid connections "x" in "trace_exporter", write a number'],
    ['timeout 1s; timeout 1s;', '"timeout" in "trace_exporter" is duplicate'],
    (map { ["$_ x;", qq{unknown directive "$_" in "trace_exporter", $known}] }
        qw(compress Endpoint set trace_exporter)),
    ['"";', qq{unknown directive "" in "trace_exporter", $known}],
    ['{', 'unexpected "{"'],
    ['headers { a b; }', 'unexpected "{"'],
    ['} }', 'unexpected "}"'],
    ['queue 4m', 'unexpected "}"'],
    ['include;', '"include" in "trace_exporter" takes 1 parameter'],
);

is(message("trace_exporter internal { endpoint '$_->[0]'; }"),
   here($_->[1]), "endpoint $_->[0]") for (
    (map { [$_, qq{invalid endpoint "$_" in "trace_exporter", $unix_or_http}] }
        '', 'https://c:4318', 'localhost:4318', '127.0.0.1:4318', 'localhost',
        '[::1]:4318', '/s', 'unix:', 'unix:s', 'unix::/v1/traces', 'http://',
        'http:/c', 'grpc://c:4317'),
    (map { ["http://127.0.0.1:$_", 'invalid port in endpoint'
            . qq{ "http://127.0.0.1:$_" of "trace_exporter", $host_and_port}] }
        '', 0, 65536, 99999999999, 'x', '80x', '4318-4320'),
    ['http://:4318', qq{no host in endpoint "http://:4318" of}
     . qq{ "trace_exporter", $host_and_port}],
    ['http://[::1', qq{invalid host in endpoint "http://[::1" of}
     . qq{ "trace_exporter", $host_and_port}],
    ['http://nowhere.invalid:4318', 'host not found in endpoint'
     . qq{ "http://nowhere.invalid:4318" of "trace_exporter", $host_and_port}],
    (map { ["unix:/$_", 'too long path in the unix domain socket in endpoint'
            . qq{ "unix:/$_" of "trace_exporter", write a shorter one}] }
        'x' x 107),
    (map { ["http://127.0.0.1:4318$_", qq{invalid path "$_" in endpoint}
            . qq{ "http://127.0.0.1:4318$_" of "trace_exporter", $path}] }
        '?a=b', '/a b', "/a\rb: c", "/\xc3\xa9"),
    ['unix:/s:traces', 'invalid path "traces" in endpoint "unix:/s:traces" of'
     . qq{ "trace_exporter", $path}],
);

# what is known only at its end
is(message("trace_exporter $_->[0] {\n$_->[1]\n}"), end($_->[2], 2),
   "$_->[0]: $_->[1]") for (
    ['internal', '', 'no endpoint in "trace_exporter internal", write'
     . ' "endpoint unix:/path;"'],
    ['user', 'endpoint unix:/s;', 'no routing_header in "trace_exporter user",'
     . ' write the name of the header that is to tell the receiver whose spans'
     . ' it gets, as "routing_header x-tenant;"'],
    ['user', 'endpoint unix:/s; routing_header x-t; header X-T a;', 'header'
     . ' "X-T" in "trace_exporter user" is the routing_header too, leave it'
     . ' out'],
    ['internal', 'endpoint unix:/s; routing_header x-t;', 'routing_header in'
     . ' "trace_exporter internal": only user spans have a routing, write a'
     . ' "header" instead'],
    (map { my $queue = $_; map { ['internal',
            "endpoint unix:/s; $queue $_->[0];", "invalid $queue of $_->[1]"
            . ' bytes in "trace_exporter", write 256k to 1024m'] }
        [0, 0], ['255k', 261120], ['262143', 262143], ['1025m', 1074790400] }
        qw(queue events_queue)),
    (map { ['internal', "endpoint unix:/s; batch_size $_;", 'invalid'
            . qq{ batch_size $_ in "trace_exporter", write 1 to 8192}] }
        0, 8193),
    (map { ['internal', "endpoint unix:/s; connections $_;", 'invalid'
            . qq{ connections $_ in "trace_exporter", write 1 to 64}] }
        0, 65),
    (map { ['internal', "endpoint unix:/s; $_ 0s;", qq{invalid $_ 0 in}
            . ' "trace_exporter", write a time above 0, as "1s"'] }
        'interval', 'timeout'),
);

is(message("trace_exporter user { endpoint unix:/s; $_->[0] }"),
   here($_->[1]), $_->[0]) for (
    ['routing_header;',
     '"routing_header" in "trace_exporter" takes 1 parameter'],
    ['routing_header "";', qq{invalid header name "" $name}],
    ['routing_header Host;', 'header "Host" in "trace_exporter" is the'
     . q{ exporter's own, leave it out}],
    ['routing_header a; routing_header b;',
     '"routing_header" in "trace_exporter" is duplicate'],
);

is(message($_->[0]), here($_->[1]), $_->[0]) for (
    ['trace_exporter {}', "$arguments \"trace_exporter\" directive"],
    ['trace_exporter internal user { }',
     "$arguments \"trace_exporter\" directive"],
    ['trace_exporter internal;',
     'directive "trace_exporter" has no opening "{"'],
    ['trace_exporter both { }',
     qq{invalid pipeline "both" in "trace_exporter", $one_of}],
);

like(message('trace_exporter internal { endpoint unix:/s; server { }'),
     qr/unexpected "\{" in \Q$conf\E:6$/, 'no "}"');


# files that are included in the block

write_file("$dir/good.conf", "header authorization 'Bearer x';\nqueue 1m;\n");
write_file("$dir/bad.conf", "\nqueue x;\n");

is(message('trace_exporter internal { include good.conf; endpoint unix:/s; }'),
   '', 'include');
is(message('trace_exporter internal { include bad.conf; endpoint unix:/s; }'),
   'invalid queue "x" in "trace_exporter", write a size, as "4m" in'
   . " $dir/bad.conf:2", 'include names the file that is wrong');
like(message('trace_exporter internal { include nosuch.conf; }'),
     qr{^open\(\) "\Q$dir\E/nosuch.conf" failed}, 'include of no file');


# what does not fit together

is(message("$exporters trace user on;"),
   '"trace user" without "trace_routing", write the variable that tells whose'
   . " spans they are, as \"trace_routing \$http_x_tenant\" in $conf:6",
   'no routing');
is(message("$exporters", "\n\nlocation /a { trace user \$http_x; }"),
   '"trace user" without "trace_routing", write the variable that tells whose'
   . " spans they are, as \"trace_routing \$http_x_tenant\" in $conf:9",
   'no routing in a location');
is(message("$exporters $on"), both_use('traceparent', 6, 6),
   'one header name');
is(message("$exporters trace user on; trace_routing x; trace internal $_;"),
   both_use('traceparent', 6, 6), "one header name, trace internal $_")
    for 'parent', 'ratio=0', 'rate=1r/m', '$host', '$host ratio=0.1 parent';
is(message("$exporters $on trace_context internal $_;"),
   both_use('traceparent', 6, 6), "one header name, internal $_")
    for qw(extract inject propagate);
is(message("$exporters trace_context internal propagate"
           . ' header=X-A-Traceparent; trace_context user propagate'
           . ' header=x-a-traceparent; trace_routing x; trace internal on;',
           "\nlocation /a {\ntrace user on; }"),
   both_use('x-a-traceparent', 6, 9), 'one header name in two cases');

for ((map { ["trace internal $_;", 'internal', ''] }
          'on', 'parent', 'ratio=0', 'rate=1r/s', 'ratio=0.1 $host'),
     ['trace user on; trace_routing x;', 'user', 'routing_header x-tenant; '])
{
    my $message = qq{"trace $_->[1]" is on, but there is no exporter: write}
        . qq{ "trace_exporter $_->[1] { endpoint unix:/path; $_->[2]}" in the}
        . ' "http" block';

    is(message($_->[0]), $message, "$_->[1] without exporter");
    is(message('', "location /a { $_->[0] }"), $message,
       "$_->[1] without exporter, in a location");
}

# events go where spans go, to a path that is like theirs

for (['internal', 'internal', 'user'], ['user', 'user', 'internal'],
     ['internal', 'both', 'user'], ['user', 'both', 'internal'])
{
    my ($without, $value, $with) = @$_;
    my $exporter = $with eq 'user' ? $user : $internal;

    is(message("$exporter", '', "server { listen unix:$dir/a;\n"
               . "location / { if (\$args) { trace_events $value; } } }"),
       qq{"trace_events $without" in $conf:9 without an exporter, write}
       . qq{ "trace_exporter $without { endpoint unix:/path; }" in the "http"}
       . ' block', "trace_events $value without trace_exporter $without");
}

for my $endpoint ('unix:/s:/', 'unix:/s:/v1/trace', 'unix:/s:/v1/traces/',
                  'http://127.0.0.1/x', 'http://127.0.0.1/v1/traces?a=b')
{
    my @with = map { "trace_exporter internal { endpoint $endpoint; $_ }" }
        '', 'events_path /l;';

    is(message("$with[0] trace_events internal;"), qq{$needs_path internal"},
       "trace_events, and the spans' endpoint is $endpoint");
    is(message("$with[0] trace_events off;"), '', "no events to $endpoint");
    is(message("$with[1] trace_events internal;"), '',
       "events_path beside $endpoint");
}

is(message("$internal trace_exporter user { endpoint unix:/s:/x;"
           . ' routing_header x-t; } trace_events both;'),
   qq{$needs_path user"}, 'trace_events both, and one path is unlike');

is(message("$exporters " . join ' ',
           map { "trace_attribute user a$_ $long;" } 1 .. 20),
   'values in "trace_attribute" are too long, write less than 65536 bytes in'
   . " all in $conf:8", 'attributes longer than a span');

is(message($exporters, "\nlocation /a { trace_context internal"
           . " propagate to=$_; }", 'upstream backend { server unix:/s; }'),
   'no upstream "nowhere" for "to=" of "trace_context internal" in'
   . " $conf:8, write the name of an \"upstream\" block, or \"all\"",
   "to=$_, in a location") for 'nowhere', 'backend,nowhere';

is(message($exporters, $_),
   '"' . (split ' ')[0] . "\" directive is not allowed here in $conf:7", $_)
    for 'trace_exporter user { }', 'trace_service_name a;',
        'trace_resource a b;';
is(message($exporters, "\nlocation /a { $_->[0] }"), "$_->[1] in $conf:8",
   $_->[0]) for (
    ['trace_status a b;', "$arguments \"trace_status\" directive"],
    ['trace_status format=xml;', 'invalid parameter "format=xml" in'
     . ' "trace_status", write "format=prometheus", "format=json" or'
     . ' "format=chrome"'],
    ['trace_status; trace_status format=json;',
     '"trace_status" directive is duplicate'],
);
is(message('', "\nlocation /a { trace_status; }"),
   qq{"trace_status" in $conf:8 without "trace_exporter", write}
   . ' "trace_exporter internal { endpoint unix:/path; }" in the "http" block',
   'trace_status without exporter');

is(message($exporters, 'location /a { limit_except GET { trace user on; } }'),
   "\"trace\" directive is not allowed here in $conf:7", 'limit_except');


# what is right

my $all_levels = 'trace internal parent ratio=0.1 rate=10r/s $arg_v;'
    . " trace user \$http_x_tenant; $apart"
    . ' trace_trusted internal unix: 10.0.0.0/8 2001:db8::/32 ::1 all realip;'
    . ' trace_context user from=$http_x_user to=backend;'
    . ' trace_routing "$http_x_tenant"; trace_span_name "$request_method x";'
    . ' trace_attribute both a "$uri b" if=$args type=string;'
    . ' trace_default_attributes user all; trace_upstream internal;'
    . ' trace_subrequests off; trace_response_header server-timing;'
    . ' trace_error_log user; trace_keep "$status";'
    . ' trace_control_header x-debug X-Force-Trace; trace_events both;';

is(message("$exporters upstream backend { server unix:/s; }", '', $_->[1]),
   '', "all directives in $_->[0]") for (
    ['http', $all_levels],
    ['server', "server { listen unix:$dir/a; $all_levels }"],
    ['a location', "server { listen unix:$dir/a; location / { $all_levels } }"],
    ['a named location',
     "server { listen unix:$dir/a; location \@n { $all_levels } }"],
    ['a nested location', "server { listen unix:$dir/a; location / {"
     . " location /a { $all_levels } } }"],
    ['if in a location', "server { listen unix:$dir/a; location / {"
     . " if (\$args) { $all_levels } } }"],
);

is(message("$exporters $_"), '', $_) for (
    'trace internal off; trace user off;',
    (map { "trace internal $_;" } '$host rate=1r/m ratio=0 parent',
        'ratio=1', 'ratio=1.0', 'ratio=0.0', 'ratio=0.000001', 'ratio=0.07',
        'rate=1000000r/s', 'rate=1r/m', 'parent $host', 'rate=1r/s ratio=0.5'),
    'trace_context internal header=traceparent;',
    (map { "trace_events $_;" } qw(internal user both off)),
    'trace_context internal to=all; trace_context user from=$http_x;',
    'upstream a { server unix:/s; } upstream b { server unix:/s; }'
    . ' trace_context internal to=a,b extract header=x-op-traceparent;',
    'trace_keep off; trace_control_header off;',
    'trace_keep "${status}a"; trace_control_header X-A x-a authorization;',
    'trace user on; trace_routing "";',
    "$on $apart",
    "$on trace_context internal ignore;",
    "$on trace_context user propagate header=traceparent; $apart",
    'trace_context internal inject header=X-9-TRACEPARENT;',
    "trace_context internal extract header=$long-traceparent;",
    'trace_span_name "";', 'trace_span_name both user;',
    "trace_span_name internal a; trace_span_name user $long;",
    'trace_service_name both internal;', "trace_service_name $long;",
    'trace_service_name internal a; trace_service_name user b;',
    'trace_resource a ""; trace_resource user a $literal;',
    "trace_resource both a \xff\xfe; trace_resource b $long;",
    'trace_attribute both a ""; trace_attribute user b "" type=int;',
    'trace_attribute user a -9223372036854775807 type=int;',
    'trace_attribute user a -1.5e-3 type=double;',
    'trace_attribute user a b type=bool if=1;',
    'trace_attribute user a $uri type=int if=$args;',
    "trace_attribute user $long 1;",
    (join ' ', map { "trace_attribute user a$_ $long;" } 1 .. 16),
);

is(message("trace_exporter internal { $_ }"), '', $_) for (
    'endpoint unix:/s;', 'endpoint unix:/s:;', 'endpoint unix:/s:/otlp;',
    'endpoint UNIX:/s;', 'endpoint "unix:/a b";',
    'endpoint unix:/' . 'x' x 106 . ';',
    'endpoint http://127.0.0.1;', 'endpoint http://127.0.0.1:65535/;',
    'endpoint http://127.0.0.1:1/v1/traces?a=b;', 'endpoint HTTP://127.0.0.1;',
    'endpoint http://localhost:4318;', 'endpoint http://[::1]:4318/v1/traces;',
    'endpoint unix:/s; header authorization "Basic dTpw$="; header a "";',
    'endpoint unix:/s; header a b; header a c;',
    "endpoint unix:/s; header $long $long;",
    'endpoint unix:/s; queue 256k; batch_size 1; interval 1ms; timeout 1d;'
    . ' connections 1;',
    'endpoint unix:/s; queue 1024m; batch_size 8192; interval 7d;'
    . ' connections 64;',
    'endpoint unix:/s; events_path /v1/logs?a=b; events_queue 256k;',
    'endpoint unix:/s; events_queue 1024m;',
);

is(message(''), '', 'nothing');

done_testing();


sub both_use {
    my ($header, $internal_line, $user_line) = @_;

    return qq{"trace internal" in $conf:$internal_line and "trace user" in}
        . qq{ $conf:$user_line both use the header "$header" in one place,}
        . ' write "trace_context internal propagate header=x-op-traceparent"';
}


# The message of nginx -t, without its time, or nothing; |http| is line 6.
sub message {
    my ($http, $server, $servers) = @_;

    $server //= '';
    $servers //= '';

    write_file($conf, <<"_EOC_");
@{[map { "load_module $_;" } split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '']}
pid $dir/pid;
error_log $dir/error.log;
events { }
http { access_log off; client_body_temp_path $dir/body;
$http
server { listen unix:$dir/l; $server }
$servers}
_EOC_

    my $output = run($ENV{TEST_NGINX_BINARY} // 'nginx', '-t', '-e', 'stderr',
        '-p', "$dir/", '-c', $conf);
    my $ok = $? == 0;

    my @messages = $output =~ /^.*\[[a-z]+\] (?:\d+#\d+: )?(.*)\n/mg;

    return "passes, with @messages" if $ok && @messages;
    return '' if $ok;
    return join "\n", @messages;
}


sub run {
    my $pid = open my $out, '-|';

    die "fork: $!" unless defined $pid;

    if ($pid == 0) {
        open STDERR, '>&', \*STDOUT;
        exec @_ or print "$_[0]: $!\n";
        exit 127;
    }

    local $/;
    my $output = <$out>;
    close $out;

    return $output;
}


sub write_file {
    my ($name, $content) = @_;

    open my $out, '>', $name or die "$name: $!";
    print $out $content;
    close $out or die "$name: $!";
}

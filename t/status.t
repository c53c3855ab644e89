# trace_status: after known traffic every number is known too, whatever became
# of the spans; and no sum ever goes down.

use strict;
use warnings;

use File::Temp;
use IO::Socket::INET;
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

use Nginx;
use Promtool;
use Receiver;

my $partial = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x0a\x02\x08\x02";

# what the page must not show at the first request of a location of its own
my $pages = 'location = /status { trace internal off; trace user off;
        trace_status format=json; }
    location = /metrics { trace internal off; trace user off; trace_status; }';

my $both = 'trace internal on; trace user $arg_user;
    trace_context internal propagate header=x-op-traceparent;
    trace_routing $arg_tenant;';

formats();
requests();
locations();
only_configured();
both_pipelines();
failures();
queue_full();
damaged();
up();
workers();

done_testing();


# an nginx with one exporter, or both, to $dir/otlp.sock; the pages show what is
# open

sub nginx {
    my ($dir, $exporter, %conf) = @_;
    my $http = delete $conf{http} // 'trace internal on;';
    my $server = delete $conf{server} // '';
    my $users = $http =~ /trace user/ ? "trace_exporter user {
        endpoint unix:$dir/otlp.sock; routing_header x-tenant; $exporter }"
        : '';

    return Nginx->new(shows_internal => 'response',
        http => "trace_exporter internal { endpoint unix:$dir/otlp.sock;
            $exporter } $users $http",
        server => "location / { return 204; } $pages $server", %conf)->start;
}


sub directory {
    my $dir = File::Temp->newdir();

    chmod 0755, $dir;
    return $dir;
}


# a whole response: its head and its body

sub ask {
    my ($nginx, $request) = @_;
    my $socket = $nginx->connect or die "connect: $!";

    print $socket $request;
    local $/;
    return split /\r\n\r\n/, <$socket> // '', 2;
}


sub status {
    my $nginx = shift;
    my ($code, $body) = $nginx->get('/status');

    return decode_json($body);
}


# the numbers once everything has its place and |$check| is content

sub settled {
    my ($nginx, $check) = @_;
    my $status;

    $nginx->wait_for(sub {
        $status = status($nginx);
        return !(grep { !balanced($_) } values %$status) && $check->($status);
    });

    return $status;
}


sub balanced {
    my $pipeline = shift;

    for (['spans', 'queue_spans'], ['events', 'events_queue_events']) {
        my ($what, $queued) = @$_;
        my $n = ($pipeline->{"${what}_exported"} // 0)
            + ($pipeline->{$queued} // 0);

        $n += $_ for values %{ $pipeline->{"${what}_dropped"} // {} };
        return 0 if $n != ($pipeline->{"${what}_recorded"} // 0);
    }

    return 1;
}


# the samples of the other format, by the names of the first

sub metrics {
    my $text = shift;
    my %status;

    for (grep { !/^#/ } split /\n/, $text) {
        my ($name, $pipeline, $reason, $value) = /^nginx_trace_(\w+)
            \{pipeline="(\w+)"(?:,reason="(\w+)")?\}\ ([\d.]+)$/x
            or return { invalid => $_ };
        $name =~ s/_total$//;

        if (defined $reason) {
            $status{$pipeline}{$name}{$reason} = 0 + $value;
        } else {
            $status{$pipeline}{$name} = 0 + $value;
        }
    }

    return \%status;
}


# |$n| requests of |$path|; true if all are served

sub load {
    my ($nginx, $n, $path) = @_;
    my $served = 0;

    for (1 .. $n) {
        $served++ if ($nginx->get($path // '/') // 0) == 204;
    }

    is($served, $n, "$n requests are served");
}


# those that are not 0, for messages that can be read

sub reasons {
    my $counts = shift;

    return { map { $counts->{$_} ? ($_ => $counts->{$_}) : () } keys %$counts };
}


sub formats {
    my $dir = directory();
    my $receiver = Receiver->new(socket => "$dir/otlp.sock");
    my $nginx = nginx($dir, 'interval 10ms;',
        http => "$both trace_events both;");

    load($nginx, 3, '/?user=1&tenant=a');

    my $json = settled($nginx, sub { $_[0]{user}{spans_exported} == 3
        && !grep { $_->{events_queue_events} } values %{ $_[0] } });
    my ($head, $text) = ask($nginx,
        "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");

    # in JSON this is the list, see open_spans.t
    $_->{open_spans} = delete $_->{open_spans_total} for $json->{internal};
    is_deeply(metrics($text), $json, 'both formats say the same');
    like($head, qr{^Content-Type: text/plain; version=0\.0\.4\r?$}m,
        'content type of Prometheus');
    like($head, qr{^Content-Length: @{[length $text]}\r?$}m, 'length');
    cmp_ok(length $text, '>', 4096, 'more than one buffer');

    ($head) = ask($nginx, "GET /status HTTP/1.0\r\n\r\n");
    like($head, qr{^Content-Type: application/json\r?$}m,
        'content type of JSON');

    my (%families, @order);
    for (split /\n/, $text) {
        my ($kind, $name) = /^# (HELP|TYPE) (\S+) ./ ? ($1, $2)
            : /^(\w+)\{/ ? ('sample', $1) : ('bad', $_);
        $families{$name}{$kind}++;
        push @order, $name if !@order || $order[-1] ne $name;
    }
    is(scalar @order, scalar keys %families, 'a metric is in one place');
    is_deeply([grep { $families{$_}{HELP} != 1 || $families{$_}{TYPE} != 1
        || !$families{$_}{sample} } keys %families], [],
        'with one HELP and one TYPE, and samples');

    is_deeply([named('directives')], [sort @order], 'directives.md has all');
    is_deeply([grep { !$families{$_} } named('operations')], [],
        'operations.md has no others');
    Promtool::check('metrics', $text, 'promtool has nothing to mend');
}


# the metrics that a page names

sub named {
    my $page = shift;

    open my $fh, '<', "docs/$page.md" or die "$page: $!";
    local $/;
    my %names = map { $_ => 1 } <$fh> =~ /\b(nginx_trace_\w+[a-z])\b/g;

    return sort keys %names;
}


sub requests {
    my $dir = directory();
    my $nginx = nginx($dir, 'interval 10ms;');
    my $rest = "/metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";

    my ($head, $body) = ask($nginx, "HEAD $rest\r\n");
    like($head, qr{^HTTP/1\.1 200 .*^Content-Length: \d{4,}\r?$}ms, 'HEAD');
    is($body, '', 'has no body');

    for my $method (qw(POST PUT DELETE OPTIONS)) {
        ($head) = ask($nginx, "$method ${rest}Content-Length: 0\r\n\r\n");
        like($head, qr{^HTTP/1\.1 405 }, "$method is not allowed");
    }

    my ($first, $second) = ask($nginx, "GET /metrics HTTP/1.1\r\nHost: a\r\n"
        . "Content-Length: 5\r\n\r\nGET /GET $rest\r\n");
    like($second, qr{\nHTTP/1\.1 200 }, 'a body of a GET is read and forgotten');
}


sub locations {
    my $dir = directory();
    my $receiver = Receiver->new(socket => "$dir/otlp.sock");
    my $nginx = nginx($dir, 'interval 10ms;', server => '
        location /traced {
            trace internal on;
            trace_status format=json;
            if ($arg_if) { set $x 1; }
            location /traced/nested { return 204; }
        }');

    my ($code, $body) = $nginx->get('/traced');
    is(decode_json($body)->{internal}{spans_recorded}, 0, 'first status');
    my $status = settled($nginx, sub { $_[0]{internal}{spans_recorded} == 1 });
    is($status->{internal}{spans_recorded}, 1, 'the page itself is traced');

    ($code, $body) = $nginx->get('/traced?if=1');
    ok(eval { decode_json($body) }, 'in an if the format is the same')
        or diag $body;
    is(scalar $nginx->get('/traced/nested'), 204, 'a location in it is another');
}


sub only_configured {
    my $dir = directory();
    my $nginx = nginx($dir, '');

    is_deeply([keys %{ status($nginx) }], ['internal'],
        'a pipeline without an exporter is not shown');
    is(status($nginx)->{internal}{export_up}, undef,
        'nothing is known of a receiver that was not asked');
    unlike(($nginx->get('/metrics'))[1], qr/^nginx_trace_export_up/m,
        'in either format');

    $nginx = nginx($dir, '', http => "$both trace_events user;");
    my $status = status($nginx);
    is_deeply({ map { my $p = $_; $p => [sort grep { /^events_/ }
        keys %{ $status->{$p} }] } keys %$status },
        { internal => [], user => [map { "events_$_" } qw(dropped exported
            queue_bytes queue_events recorded)] },
        'events are counted in the pipeline that has them');
    my $text = ($nginx->get('/metrics'))[1];
    like($text, qr/^nginx_trace_events_recorded_total\{pipeline="user"/m,
        'there');
    unlike($text, qr/^nginx_trace_events_.*\{pipeline="internal"/m,
        'and not in the other');

    $nginx = nginx($dir, '', http => '');
    is_deeply(status($nginx), {}, 'nor one that is off everywhere');
}


# 10 internal spans, and 8 user spans of which 3 have no routing

sub both_pipelines {
    my $dir = directory();
    my $receiver = Receiver->new(socket => "$dir/otlp.sock");
    my $nginx = nginx($dir, 'interval 10ms;', http => $both);

    load($nginx, 2);
    load($nginx, 3, '/?user=1');
    load($nginx, 2, '/?user=1&tenant=a');
    load($nginx, 3, '/?user=1&tenant=b');

    my $status = settled($nginx, sub {
        $_[0]{internal}{spans_exported} == 10 && $_[0]{user}{spans_exported} == 5
    });
    my %requests = (internal => [], user => []);

    push @{ $requests{$_->[3] eq '-' ? 'internal' : 'user'} }, $_
        for $receiver->requests;

    my %expected = (
        internal => { spans_recorded => 10, spans_exported => 10,
            spans_dropped => {}, open_spans => [], open_spans_total => 0 },
        user => { spans_recorded => 8, spans_exported => 5,
            spans_dropped => { no_routing => 3 } });

    for my $pipeline (qw(internal user)) {
        my $is = $status->{$pipeline};
        my $requests = $requests{$pipeline};
        my $bytes = 0;

        $bytes += $_->[2] for @$requests;
        is_deeply({ map { my $v = $is->{$_};
            $_ => ref $v eq 'HASH' ? reasons($v) : $v } keys %$is },
            { %{ $expected{$pipeline} },
            export_requests => scalar @$requests, export_bytes => $bytes,
            export_failures => {}, export_retries => 0, export_up => 1,
            export_up_changed_timestamp_seconds =>
                $is->{export_up_changed_timestamp_seconds},
            queue_spans => 0, queue_bytes => 0,
            queue_size_bytes => 4 * 1024 * 1024, queue_oldest_seconds => 0,
        }, "$pipeline: every number");
        cmp_ok(abs($is->{export_up_changed_timestamp_seconds} - time), '<', 10,
            "$pipeline: a time of now");
    }
}


# what a receiver does to the first batch, of four spans, and what that counts

sub failures {
    my $gone = sub { 0 };
    my @cases = (
        [ 'closes', $gone, 'closed' ],
        [ 'is silent', sub { sleep 1; 0 }, 'timeout', undef, 'timeout 800ms;' ],
        [ 'answers garbage', sub { print { $_[0] } "\xff" x 99; 1 }, 'invalid' ],
        (map { my $code = $_; [ "answers $code", answer($code), 'retryable' ] }
            429, 502, 503, 504),
        [ 'answers 400', answer(400), 'rejected', { rejected => 4 } ],
        [ 'answers 404', answer(404), 'rejected', { rejected => 4 } ],
        [ 'answers 413', answer(413), 'rejected', { too_large => 4 } ],
        [ 'takes two of four', sub { print { $_[0] } $partial; 1 }, undef,
            { rejected => 2 } ],
        [ 'closes for too long', $gone, 'closed', { retry_expired => 4 },
            'retry_time 200ms;' ],
    );

    for (@cases) {
        my ($name, $answer, $failure, $dropped, $more) = @$_;
        subtest "a receiver that $name" => sub {
            failure($answer, $failure, $dropped, $more // '');
        };
    }

    subtest 'a receiver that is not there' => sub {
        my $dir = directory();
        my $nginx = nginx($dir, 'interval 1h; batch_size 4;');

        load($nginx, 4);
        my $is = settled($nginx,
            sub { $_[0]{internal}{export_failures}{connect} > 2 })->{internal};
        is($is->{queue_spans}, 4, 'its spans are in the queue');
        is_deeply([keys %{ reasons($is->{export_failures}) }], ['connect'],
            'the reason');
        cmp_ok($is->{export_retries}, '>=', $is->{export_requests} - 1,
            'all but the first are retries');

        my $receiver = Receiver->new(socket => "$dir/otlp.sock");
        $is = settled($nginx, sub { $_[0]{internal}{spans_exported} == 4 });
        is($is->{internal}{spans_exported}, 4, 'until it is');
    };
}


sub answer {
    my $code = shift;

    return sub {
        print { $_[0] } "HTTP/1.1 $code No\r\nContent-Length: 0\r\n\r\n";
        1;
    };
}


sub failure {
    my ($answer, $failure, $dropped, $more) = @_;
    my $dir = directory();
    my $expired = $dropped && $dropped->{retry_expired};
    my $receiver = Receiver->new(socket => "$dir/otlp.sock", answer => sub {
        my ($socket, $n) = @_;
        return $n == 1 || $expired ? $answer->($socket) : Receiver::ok($socket);
    });
    my $nginx = nginx($dir, "interval 60s; batch_size 4; $more");
    my $lost = 0;

    load($nginx, 4);
    $lost += $_ for values %{ $dropped // {} };

    my $is = settled($nginx, sub { !$_[0]{internal}{queue_spans} })->{internal};

    is_deeply(reasons($is->{spans_dropped}), $dropped // {}, 'dropped');
    is($is->{spans_exported}, 4 - $lost, 'exported');
    is($is->{spans_recorded}, 4, 'recorded');
    is_deeply([keys %{ reasons($is->{export_failures}) }],
        [$failure // ()], 'failures');
    is($is->{export_requests}, scalar $receiver->requests, 'requests');
    is($is->{export_retries}, $is->{export_requests} - 1, 'retries');
    is($is->{export_failures}{$failure}, $expired ? $is->{export_requests} : 1,
        'how many') if $failure;
}


# the names of these spans are long, so that few of them fill the queue

sub queue_full {
    my $dir = directory();
    my $long = 'x' x 2000;
    my $nginx = nginx($dir, 'interval 10ms; queue 256k;',
        http => "trace internal on; trace_span_name $long;");

    load($nginx, 300);

    my $is = settled($nginx, sub { $_[0]{internal}{spans_recorded} == 300 })
        ->{internal};
    my $full = $is->{spans_dropped}{queue_full};

    cmp_ok($full, '>', 10, 'a full queue takes no more');
    is($is->{queue_spans}, 300 - $full, 'and keeps what it has');
    is($is->{queue_size_bytes}, 256 * 1024, 'its size');
    cmp_ok($is->{queue_bytes}, '<=', 256 * 1024, 'is not exceeded');
    cmp_ok($is->{queue_bytes}, '>', 256 * 1024 - 5000, 'and used');

    sleep 1.1;
    cmp_ok(status($nginx)->{internal}{queue_oldest_seconds}, '>', 1,
        'the oldest grows older');

    my $receiver = Receiver->new(socket => "$dir/otlp.sock");
    $is = settled($nginx, sub { !$_[0]{internal}{queue_spans} })->{internal};
    is($is->{spans_exported}, 300 - $full, 'all in it are delivered');
    is($is->{spans_dropped}{queue_full}, $full, 'and none of the others');
    is($is->{queue_oldest_seconds}, 0, 'nothing is old in an empty queue');
}


sub damaged {
    my $dir = directory();
    my $file = "$dir/queue";
    my $exporter = "interval 10ms; timeout 100ms; queue 256k file=$file;";
    my $nginx = nginx($dir, $exporter);

    load($nginx, 5);
    is(settled($nginx, sub { $_[0]{internal}{queue_spans} == 5 })
        ->{internal}{queue_spans}, 5, 'five spans in a file');
    ok(defined $nginx->quit, 'quit');

    # the queues begin behind the first MiB
    open my $fh, '+<', $file or die "$file: $!";
    seek $fh, 1024 * 1024, 0;
    print $fh "\0" x 64;
    close $fh;

    my $receiver = Receiver->new(socket => "$dir/otlp.sock");
    $nginx = nginx($dir, $exporter);
    load($nginx, 2);

    my $is = settled($nginx, sub { $_[0]{internal}{spans_exported} == 2 })
        ->{internal};
    is_deeply(reasons($is->{spans_dropped}), { damaged => 5 },
        'the ones in a damaged queue are lost, and counted');
    is($is->{spans_recorded}, 7, 'with those before');
}


sub up {
    my $dir = directory();
    my $receiver = Receiver->new(socket => "$dir/otlp.sock");
    my $nginx = nginx($dir, 'interval 10ms;');
    my $changed = 0;

    for my $up (1, 0, 1) {
        $up ? $receiver->{pid} || $receiver->start : $receiver->stop;
        sleep 0.01;
        load($nginx, 1);
        my $is = settled($nginx, sub { ($_[0]{internal}{export_up} // 9) == $up })
            ->{internal};
        is($is->{export_up}, $up, $up ? 'up' : 'down');
        cmp_ok($is->{export_up_changed_timestamp_seconds}, '>', $changed,
            'since when');
        $changed = $is->{export_up_changed_timestamp_seconds};
    }
}


# two workers, of which many die, and reloads: recorded = exported at the end,
# and no sum went down on the way

sub workers {
    my $dir = directory();
    my $receiver = Receiver->new(socket => "$dir/otlp.sock");
    my $nginx = nginx($dir, 'interval 20ms;', http => $both,
        main => 'worker_processes 2;',
        server => 'location = /pid { return 200 $pid; }');
    my (%served, %sums, @down, $sent);

    for (1 .. 2000) {
        my @sockets = map { $nginx->connect } 1 .. 4;
        print $_ "GET /pid?user=1&tenant=a HTTP/1.0\r\n\r\n" for @sockets;
        for my $socket (@sockets) {
            local $/;
            $served{$1}++ if <$socket> =~ /(\d+)\z/;
            $sent++;
        }
        last if keys %served == 2;
    }

    is(scalar keys %served, 2, 'both workers have served');
    is(settled($nginx, sub { $_[0]{user}{spans_exported} == $sent })
        ->{user}{spans_exported}, $sent, 'and are summed');

    my $watch = sub {
        my $status = status($nginx);

        for my $pipeline (keys %$status) {
            my $is = $status->{$pipeline};

            for my $name (grep { !/^queue|^open|_up/ } keys %$is) {
                my $value = $is->{$name};
                my $values = ref $value ? $value : { '' => $value };

                for my $reason (keys %$values) {
                    my $key = "$pipeline $name $reason";
                    push @down, "$key: $sums{$key} > $values->{$reason}"
                        if ($sums{$key} // 0) > $values->{$reason};
                    $sums{$key} = $values->{$reason};
                }
            }
        }
    };

    for my $round (1 .. 20) {
        for (1 .. 10) {
            $nginx->get('/?user=1&tenant=b');
            $sent++;
        }
        $watch->();

        my @workers = $nginx->workers;
        if ($round % 4 == 0) {
            $nginx->configure(main => "worker_processes @{[1 + $round % 3]};");
            $nginx->signal('HUP');
        } else {
            kill 'KILL', $workers[0];
        }
        sleep 0.1;
        $watch->();
    }

    my $status = settled($nginx, sub {
        $_[0]{user}{queue_spans} == 0 && $_[0]{internal}{queue_spans} == 0 });
    $watch->();

    is_deeply(\@down, [], 'no sum goes down');
    for my $pipeline (qw(internal user)) {
        my $is = $status->{$pipeline};

        is_deeply(reasons($is->{spans_dropped}), {}, "$pipeline: none is lost");
        cmp_ok($is->{spans_recorded}, '>=', $sent, "$pipeline: all are there");
        is($is->{spans_exported}, $is->{spans_recorded},
            "$pipeline: and exported");
    }
}

# Span events arrive soon, in order, and each once; none is lost but what is
# counted and told of; and none ever touches a request, or a finished span.

use strict;
use warnings;

BEGIN {
    my $build = $ENV{TEST_BUILD} || 'build';

    $ENV{TEST_NGINX_LOAD_MODULES} .= " $build/ngx_http_trace_test_module.so"
        if $ENV{TEST_NGINX_LOAD_MODULES};
}

use Events;
use Held;
use Promtool;
use Test::More;

# requests that are opened and closed at once: two events each

sub announcing {
    my ($dir, $lines, %conf) = @_;

    return nginx($dir, $lines, http => 'trace_events internal;', %conf);
}

# requests whose three events are 50 ms apart, so that they come in more than
# one batch, and are in order only if these are

my $app;

sub spread {
    my ($dir, $lines, %conf) = @_;

    $app ||= Nginx->new(events => 'worker_connections 2048;',
        server => 'location / { return 204; }')->start;

    return nginx($dir, $lines, events => 'worker_connections 2048;',
        http => 'trace internal on; trace_events internal;',
        server => "location / {
            trace_upstream off;
            span access wait 50;
            proxy_pass http://unix:$app->{dir}/nginx.sock;
        }
        location = /status { trace internal off; trace user off;
            trace_status format=json; }", %conf);
}

sub spread_clients { return clients(@_, connections => 200) }

# requests that stay, with an attempt and a span of their own

my $deep = 'location /deep { trace_span work;
    proxy_pass http://behind; }';

sub announcing_held {
    my ($dir, $lines, %conf) = @_;
    my $more = delete $conf{more} // '';

    return held($dir, $lines, main => 'worker_processes 1;',
        http => 'trace_events both;', server => "$deep $more", %conf);
}

# answers some requests of events with 200, then with these in turn; and others,
# and all of spans, with 200

sub refuses {
    my ($first, @answers) = @_;

    return sub {
        my ($socket, $n, $request) = @_;
        my $answer = $request->{path} !~ /logs/ || $first-- > 0 ? undef
            : shift @answers;

        return Receiver::ok($socket) if !defined $answer;
        return 0 if $answer eq 'close';
        return Receiver::status($socket, split / /, $answer, 2);
    };
}

# the records that a receiver has taken, in their order and each once, and those
# that came again though nginx was told that they had come

sub taken {
    my (%known, %seen, @records, @again);

    for my $batch (@_) {
        my $answer = $batch->{answered} ? $batch->{status} : '-';

        next if $answer !~ /\A(200|-)\z/;

        for my $record (@{$batch->{records}}) {
            my $key = join ' ', map { $record->{attributes}{"span.$_"} }
                qw(pipeline request_id sequence);

            push @again, $key if $known{$key};
            push @records, $record if !$seen{$key}++;
            $known{$key} = 1 if $answer eq '200';
        }
    }

    return (\@records, \@again);
}

# the events of each request, or of those of tenant => PATTERN, of which is
# checked what Events.pm can check. With again => 1 they may come again: a
# worker is killed before it reads an answer

sub orderly {
    my ($receiver, %allow) = @_;
    my $tenant = $allow{tenant} // qr/./;
    my ($records, $again) = taken(grep { $_->{tenant} =~ $tenant }
        $receiver->events);
    my @requests = Events::requests(@$records);
    my @complaints = map { Events::complaints($_, $allow{open}),
        strangers($_) } @requests;

    is_deeply([splice @complaints, 0, 9], [], 'each request is in order');
    is_deeply([splice @$again, 0, 9], [], 'none comes again')
        if !$allow{again};

    return @requests;
}

# internal records have no tenant, and those of a user's request the same

sub strangers {
    my %tenants = map { ($_->{headers}{'x-tenant'} // '-') => 1 } @{$_[0]};
    my $pipeline = $_[0][0]{attributes}{'span.pipeline'};

    return if keys %tenants == 1
        && exists $tenants{'-'} == ($pipeline eq 'internal');
    return "$pipeline, of " . join ' ', sort keys %tenants;
}

# clients leave, and |$n| requests stay. A receiver that was started meanwhile
# has their sockets, too

sub leave {
    my ($nginx, $n, @sockets) = @_;

    shutdown $_, 2 for @sockets;
    $nginx->wait_for(sub { (open_spans($nginx))[1] == $n });
}

# the records that have come, once there are |$n| of them

sub arrived {
    my ($nginx, $receiver, $n) = @_;
    my @records;

    $nginx->wait_for(sub {
        @records = map { @{$_->{records}} } $receiver->events;
        return @records >= $n;
    });

    return @records;
}

sub named { my ($name, @records) = @_;
    return grep { $_->{event_name} eq "span.$name" } @records }

sub drawn { return join "\n", Events::draw(@{$_[0]}) }

# how many events were lost, as far as span.dropped tells

sub told {
    my $sum = 0;

    $sum += $_->{attributes}{'span.dropped_count'} for named('dropped', @_);
    return $sum;
}

scene 'few are there soon, whatever the interval of spans is', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing($dir, 'interval 20s;')->start;

    for (1 .. 10) {
        $nginx->get("/r/$_;");
        sleep 0.1;
    }

    is(scalar arrived($nginx, $receiver, 20), 20, 'all are there');
    is($receiver->spans, 0, 'and no span');

    for my $batch ($receiver->events) {
        my $late = $batch->{time} - $batch->{records}[0]{time} / 1e9;

        cmp_ok($late, '<', 1, "after $late s");
    }

    is(scalar orderly($receiver), 10, 'ten requests');
};

scene 'many come in few requests, and yet soon', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing($dir, 'queue 16m; events_queue 16m;')->start;
    my $result = clients($nginx, requests => 6000)->wait;

    delivered($receiver, $result);
    balance($nginx, recorded => 6000, exported => 6000);
    balance($nginx, of => 'events', recorded => 12_000, exported => 12_000);
    is(scalar orderly($receiver), 6000, 'all requests');

    my @batches = $receiver->events;
    my $late = late(@batches);

    # each worker waits for 20 ms, or until it has a batch
    my $seconds = $batches[-1]{time} - $batches[0]{time};
    cmp_ok(scalar @batches, '<', 2 * (12_000 / 512 + $seconds / 0.02 + 5),
        @batches . " requests in $seconds s");
    cmp_ok($late, '<', 2, "the slowest waits for $late s");
};

scene 'batch_size is of events, too', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing($dir, 'batch_size 10;',
        main => 'worker_processes 1;')->start;

    clients($nginx, requests => 500)->wait;
    balance($nginx, of => 'events', exported => 1000);

    my @sizes = sort { $b <=> $a }
        map { scalar @{$_->{records}} } $receiver->events;
    is($sizes[0], 10, 'the largest has ten');
    orderly($receiver);
};

scene 'the queue is full: requests and spans know nothing of it', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing($dir, 'queue 64m; events_queue 256k;',
        main => 'worker_processes 1;')->start;

    $receiver->stop;
    my $result = clients($nginx, requests => 10_000)->wait;
    my $status = status($nginx);
    my $full = $status->{events_dropped}{queue_full};

    is($result->{failed}, 0, 'no request fails');
    cmp_ok($result->{slowest}, '<', 1, 'no request waits');
    cmp_ok($full, '>', 10_000, "dropped: $full");
    is($status->{events_recorded}, $status->{events_queue_events} + $full,
        'all others are in the queue');
    cmp_ok($status->{events_queue_bytes}, '<=', 256 * 1024, 'which is bounded');
    is($status->{spans_dropped}{queue_full}, 0, 'no span is dropped');
    like($nginx->log, qr/internal events were dropped, .*"queue_full"/,
        'the log says so');

    $receiver->start;
    delivered($receiver, $result);
    balance($nginx, recorded => 10_000, exported => 10_000);
    $status = balance($nginx, of => 'events', queue_full => $full);

    my @records = map { @$_ } orderly($receiver);
    my @others = grep { $_->{event_name} ne 'span.dropped' } @records;

    is(scalar @records, $status->{events_exported}, 'what is counted has come');
    is(20_000 - @others, $full, 'and the others were dropped');
    cmp_ok(scalar named('open', @records), '>', 100, 'some were announced');
};

# what is announced of requests that go on while the queue is full, and beyond

scene 'span.dropped tells what was lost, exactly', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing_held($dir, 'events_queue 256k; timeout 1s;',
        more => 'location /many {
            trace user off; span access opens 450;
            span log opens 10; proxy_pass http://behind; }')->start;
    my @sockets = hold($nginx, ['/many?try=hang']);

    # the second finds room for its beginning
    arrived($nginx, $receiver, 902);
    $receiver->stop;
    push @sockets, hold($nginx, (['/many?try=hang']) x 2);
    $nginx->wait_for(sub {
        status($nginx)->{events_dropped}{queue_full} > 400 });

    $receiver->start;
    settled($nginx, 'internal', 'events');
    leave($nginx, 0, @sockets);

    my $full = status($nginx)->{events_dropped}{queue_full};
    my $status = balance($nginx, of => 'events', queue_full => $full);
    my @requests = orderly($receiver);
    is(told(map { @$_ } @requests), $full, "of $full all is told");
    is(scalar @requests, 3, 'each request has its events');
    is(scalar(grep { named('dropped', @$_) } @requests), 1,
        'one of them has lost some');
};

scene 'room for ends is kept, whatever is lost between them', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $routing = 'r' x 1000;
    my $hoard = join ' ', map { "span access open $_ one;" } 0 .. 9;
    my $ends = join ' ', map {
        "span log opens 20; span log set 9 long=x50000; span log close $_;"
    } 0 .. 9;

    # records of many sizes, so that some do not fit at the end of the ring
    my $fill = join ' ', 'span access open 0 one;', map {
        'span access set 0 a=' . ($_ % 7 ? 'x700' : 'x15000') . ';' } 1 .. 300;

    my $nginx = announcing_held($dir, 'events_queue 256k;', more =>
        "location /hoard { $hoard $ends proxy_pass http://behind; }
         location /fill { $fill span access opens 300;
             proxy_pass http://behind; }")->start;

    # wherever in the ring it is full
    for my $n (1 .. 8) {
        my @hoard = hold($nginx, (["/hoard?try=hang&tenant=$routing"]) x $n);

        until_open($nginx, $n);
        settled($nginx, $_, 'events') for qw(internal user);
        $receiver->stop;
        my ($full) = hold($nginx, ["/fill?try=hang&tenant=$routing"]);
        until_open($nginx, $n + 1);
        leave($nginx, 1, @hoard);
        leave($nginx, 0, $full);
        $receiver->start;
        settled($nginx, $_, 'events') for qw(internal user);
    }

    balance($nginx, of => 'events', pipeline => $_, queue_full =>
        status($nginx, $_)->{events_dropped}{queue_full})
            for qw(internal user);

    my @requests = orderly($receiver);
    cmp_ok(scalar @requests, '>', 2 * 36, 'requests: ' . @requests);
    my @often = grep { named('dropped', @$_) > 3 } @requests;
    cmp_ok(scalar @often, '>', 20, 'some have lost some often: ' . @often);
};

scene 'places for open spans are bounded', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing_held($dir, 'events_queue 16m;',
        more => 'location /many { trace user off;'
            . 'span access open 0 one;' x 990 . 'proxy_pass http://behind; }')
        ->start;
    my @sockets = hold($nginx, (['/many?try=hang']) x 9);

    my @records = arrived($nginx, $receiver, 8192);
    is(scalar named('open', @records), 8192, 'so many are announced');
    $nginx->wait_for(sub { status($nginx)->{events_dropped}{queue_full} });
    leave($nginx, 0, @sockets);

    my $status = balance($nginx, of => 'events',
        queue_full => 2 * (9 * 992 - 8192));
    my @requests = orderly($receiver);
    is(told(map { @$_ } @requests), $status->{events_dropped}{queue_full},
        'of those that are not it is told');
    is(scalar named('close', map { @$_ } @requests), 8192, 'all are closed');

    # and are free again
    hold($nginx, ['/many?size=1']);
    $nginx->wait_for(sub {
        status($nginx)->{events_recorded} > $status->{events_recorded} });
    balance($nginx, of => 'events',
        queue_full => $status->{events_dropped}{queue_full});
};

my %troubles = (
    '503' => ['503', '503'], '429' => ['429'],
    '503 with Retry-After' => ['503 Retry-After: 1'],
    'a connection that is closed' => ['close', 'close'],
);

for my $trouble (sort keys %troubles) {
    scene "$trouble: order is kept", sub {
        my $dir = shift;
        my $receiver = receiver($dir, delay => 0.01,
            answer => refuses(5, @{$troubles{$trouble}}));
        my $nginx = spread($dir, 'batch_size 50;',
            main => 'worker_processes 1;')->start;
        my $result = spread_clients($nginx, requests => 1000)->wait;

        balance($nginx, of => 'events', recorded => 3000, exported => 3000);
        delivered($receiver, $result);
        is(scalar orderly($receiver), 1000, 'all requests');
        is(scalar(grep { ($_->{status} // '') ne '200' } $receiver->events),
            @{$troubles{$trouble}}, 'others were refused');
        like($nginx->log, qr/internal events to .* failed/, 'the log says so');
        is(status($nginx)->{export_up}, 1, 'spans are no trouble');
    };
}

for my $code (400, 404, 413) {
    scene "$code drops a batch of events, and no other", sub {
        my $dir = shift;
        my $receiver = receiver($dir, answer => refuses(0, $code));
        my $nginx = announcing($dir, '', main => 'worker_processes 1;')
            ->start;

        $nginx->get('/r/1;');
        arrived($nginx, $receiver, 2);
        $nginx->get('/r/2;');
        balance($nginx, of => 'events', recorded => 4, exported => 2,
            $code == 413 ? 'too_large' : 'rejected', 2);
        balance($nginx, recorded => 2, exported => 2);
        like($nginx->log, qr/rejects internal events: status $code/,
            'the log says so');
    };
}

scene 'a receiver is restarted 20 times under load', sub {
    my $dir = shift;
    my $receiver = receiver($dir, delay => 0.01);
    my $nginx = spread($dir, 'queue 32m; events_queue 32m; batch_size 100;
        interval 20ms;')->start;
    my $load = spread_clients($nginx, rate => 600);

    for (1 .. 20) {
        sleep 0.05 + rand 0.15;
        $receiver->stop;
        sleep rand 0.1;
        $receiver->start;
    }

    my $result = $load->stop;
    my $n = @{$result->{finished}} + @{$result->{maybe}};

    is($result->{failed}, 0, 'no request fails');
    balance($nginx, of => 'events', recorded => 3 * $n, exported => 3 * $n);
    delivered($receiver, $result, more => 1);
    is(scalar orderly($receiver), $n, 'all requests');
};

# the tenant is the last digit of the number

sub tenants {
    my ($dir, $lines, $timeout) = @_;

    $timeout //= 1;
    return spread($dir, '', main => 'worker_processes 1;', http =>
        exporter($dir, "routing_header x-tenant; timeout ${timeout}s;
            queue 64m; $lines", 'user') . 'map $uri $tenant {
                "~(?<digit>\\d);$" t$digit; }
            trace_routing $tenant; trace user on; trace_events user;');
}

# as long as there is no file of this name, half of the tenants are refused

sub accepts {
    my $file = shift;

    return sub {
        my ($socket, $n, $request) = @_;

        return ($request->{tenant} // '') =~ /[0-4]/ && !-e $file
            ? Receiver::status($socket, 503) : Receiver::ok($socket);
    };
}

sub late {
    my ($late) = sort { $b <=> $a }
        map { $_->{time} - $_->{records}[0]{time} / 1e9 } @_;

    return $late;
}

scene 'the 503 of one tenant is no trouble of another', sub {
    my $dir = shift;
    my $receiver = receiver($dir, answer => accepts("$dir/accepted"));
    my $nginx = tenants($dir, 'events_queue 16m; batch_size 20;')->start;
    my $load = spread_clients($nginx, rate => 600);

    for (1 .. 3) {
        sleep 0.7;
        open my $fh, '>', "$dir/accepted" or die $!;
        sleep 0.3;
        unlink "$dir/accepted" if $_ < 3;
    }

    my $result = $load->stop;
    my $n = @{$result->{finished}};

    balance($nginx, pipeline => 'user', of => 'events', recorded => 3 * $n,
        exported => 3 * $n);
    is(scalar orderly($receiver), $n, 'all come in order');
    my $late = late(grep { $_->{tenant} =~ /[5-9]/ } $receiver->events);
    cmp_ok($late, '<', 2, "the others' wait for $late s");
};

scene 'a tenant is refused until the worker quits', sub {
    my $dir = shift;
    my $receiver = receiver($dir, answer => accepts("$dir/accepted"));
    my $nginx = tenants($dir, 'events_queue 16m; batch_size 20;')->start;
    my $result = spread_clients($nginx, requests => 1000)->wait;

    $nginx->signal('QUIT');
    sleep 0.3;
    open my $fh, '>', "$dir/accepted" or die $!;
    ok($nginx->gone($nginx->{pid}, 5), 'it quits');
    is(scalar(map { @$_ } orderly($receiver)), 3000, 'all come in order');
};

scene 'a tenant is refused when a worker quits: others get theirs', sub {
    my $dir = shift;
    my $receiver = receiver($dir, delay => 0.02,
        answer => accepts("$dir/never"));
    my $nginx = tenants($dir, 'events_queue 16m; batch_size 50;', 4)->start;
    my $result = spread_clients($nginx, requests => 1000)->wait;

    ok($nginx->quit, 'it quits');
    is(scalar orderly($receiver, tenant => qr/[5-9]/), 500,
        'all of theirs have come, in order');
};

scene 'what a tenant is refused is given up in the end', sub {
    my $dir = shift;
    my $receiver = receiver($dir, answer => accepts("$dir/never"));
    my $nginx = tenants($dir, 'retry_time 2s;')->start;

    spread_clients($nginx, requests => 500)->wait;
    balance($nginx, pipeline => 'user', of => 'events', exported => 750,
        retry_expired => 750);
};

scene 'what one tenant is refused makes room for the others', sub {
    my $dir = shift;
    my $receiver = receiver($dir, answer => accepts("$dir/never"));
    my $nginx = tenants($dir, 'events_queue 256k;')->start;
    my $result = spread_clients($nginx, requests => 3000, rate => 1000)->wait;
    my $status;

    $nginx->wait_for(sub {
        $status = status($nginx, 'user');
        return $status->{events_exported} >= 4500;
    });
    is($result->{failed}, 0, 'no request fails');
    is($status->{events_exported}, 4500, 'all of theirs are there');
    cmp_ok($status->{events_dropped}{queue_full}, '>', 2000,
        'those of the one are dropped');
    is(scalar orderly($receiver), 1500, 'and are in order');
};

# each request of /deep, and how it ends

sub deep {
    my ($end, $return) = @_;

    return "open SERVER GET /deep\n  open INTERNAL work\n    open CLIENT GET\n"
        . ($return ? "return $return\n" : '')
        . "    close GET $end\n  close work"
        . ($end =~ /ERROR/ ? " $end" : '') . "\nclose GET /deep $end";
}

my %deaths = (
    'kill -9' => sub { kill 'KILL', $_[0]->workers },
    'TERM of it alone' => sub { kill 'TERM', $_[0]->workers },
    'a crash' => sub { kill 'SEGV', $_[0]->workers },
    'kill -9 of it and of the next one' => sub {
        my $nginx = shift;

        for (1 .. 2) {
            my ($worker) = $nginx->workers;
            kill 'KILL', $worker;
            $nginx->wait_for(sub {
                my ($next) = $nginx->workers;
                return $next && $next != $worker;
            });
        }
    },
);

for my $death (sort keys %deaths) {
    for my $receives (1, 0) {
        scene "$death, " . ($receives ? 'all was announced'
            : 'nothing was sent yet'), sub
        {
            my $dir = shift;
            my $receiver = receiver($dir);
            my $nginx = announcing_held($dir, 'interval 50ms;')->start;

            $receiver->stop if !$receives;
            my @sockets = hold($nginx, map {
                ["/deep?try=hang&tenant=t$_", context($_)] } 1 .. 20);

            $receives ? arrived($nginx, $receiver, 120)
                : $nginx->wait_for(sub {
                    status($nginx)->{events_queue_events} >= 60
                        && status($nginx, 'user')->{events_queue_events} >= 60
                  });
            $deaths{$death}->($nginx);
            $receiver->start if !$receives;
            arrived($nginx, $receiver, 240);
            sleep 0.2;

            my @requests = orderly($receiver, again => 1);
            my %ends = map { drawn($_) => 1 } @requests;

            is(scalar @requests, 40, 'twenty of each pipeline');
            is(join("\n", sort keys %ends),
                deep('ERROR error=worker_exit'), 'all are closed');
            is(scalar(map { @$_ } @requests), 240, 'and that is all');
            is($receiver->wait_spans(40), 40, 'their spans come');

            for my $pipeline (qw(internal user)) {
                balance($nginx, of => 'events', pipeline => $pipeline,
                    recorded => 120, exported => 120);
            }
        };
    }
}

scene 'kill -9 when the queue is full', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing_held($dir, 'events_queue 256k; queue 64m;',
        more => 'location /fill { return 204; }')->start;
    my @sockets = hold($nginx, (['/deep?try=hang&tenant=a']) x 20);

    arrived($nginx, $receiver, 120);
    $receiver->stop;
    push @sockets, hold($nginx, (['/deep?try=hang&tenant=a']) x 20);
    until_open($nginx, 40);
    clients($nginx, requests => 2000, path => '/fill/r/%d;?tenant=a')->wait;

    my %full = map { ($_ => status($nginx, $_)->{events_dropped}{queue_full}) }
        qw(internal user);
    kill 'KILL', $nginx->workers;
    $receiver->start;

    for my $pipeline (sort keys %full) {
        cmp_ok($full{$pipeline}, '>', 1000, "$pipeline: it was full");
        balance($nginx, of => 'events', pipeline => $pipeline,
            queue_full => $full{$pipeline});
    }

    my @deep = grep { drawn($_) eq deep('ERROR error=worker_exit') }
        orderly($receiver, again => 1);
    is(scalar @deep, 80, 'what was announced is closed');
};

scene 'a routing that is too long for who buries a worker', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing_held($dir, '')->start;
    my $uri = '/deep?try=hang&tenant=';
    my @sockets = hold($nginx, [$uri . 'r' x 128], [$uri . 'r' x 129]);

    arrived($nginx, $receiver, 12);
    kill 'KILL', $nginx->workers;
    arrived($nginx, $receiver, 21);
    balance($nginx, of => 'events', pipeline => 'user', recorded => 12,
        exported => 9, no_routing => 3);
    is(scalar(grep { named('close', @$_) == 3 }
        orderly($receiver, again => 1, open => 1)), 3, 'the others are closed');
};

scene 'kill -9 of a worker, 20 times under load', sub {
    my $dir = shift;
    my $receiver = receiver($dir, delay => 0.005);
    my $nginx = spread($dir, 'queue 16m; interval 100ms; batch_size 100;
        events_queue 16m;')->start;
    my $load = spread_clients($nginx, rate => 600);

    for (1 .. 20) {
        sleep 0.02 + rand 0.15;
        $nginx->wait_for(sub { $nginx->workers == 2 });

        my @workers = $nginx->workers;
        kill 'KILL', $workers[rand @workers];
    }

    sleep 0.2;
    my $result = $load->stop;

    delivered($receiver, $result, more => 1, kills => 20);
    my $status = balance($nginx, of => 'events');
    my @requests = orderly($receiver, again => 1);

    cmp_ok(scalar @requests, '>=', @{$result->{finished}}, 'all requests');
    is(scalar(map { @$_ } @requests), $status->{events_exported},
        'each event is counted once');
};

scene 'a reload: old requests go on, and are closed', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing_held($dir, 'interval 50ms;')->start;
    my @old = hold($nginx, (['/deep?try=hang&tenant=old']) x 5);

    arrived($nginx, $receiver, 30);
    $nginx->reload;
    my @new = hold($nginx, (['/deep?try=hang&tenant=new']) x 5);
    arrived($nginx, $receiver, 60);
    orderly($receiver, open => 1);

    leave($nginx, 0, @old, @new);
    arrived($nginx, $receiver, 120);
    my %ends = map { drawn($_) => 1 } my @requests = orderly($receiver);
    is(scalar @requests, 20, 'all requests');
    is(join("\n", keys %ends), deep('error=client_closed'), 'are closed');
};

scene 'a reload without events: what was announced is closed', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing_held($dir, '')->start;
    my @sockets = hold($nginx, (['/deep?try=hang&tenant=a']) x 5);

    arrived($nginx, $receiver, 30);
    $nginx->{http} =~ s/trace_events both;//;
    $nginx->reload;
    $nginx->wait_for(sub { $nginx->log =~ /gracefully shutting down/ });
    push @sockets, hold($nginx, (['/deep?try=hang&tenant=a']) x 5);
    until_open($nginx, 10);
    leave($nginx, 0, @sockets);
    arrived($nginx, $receiver, 60);
    is(scalar orderly($receiver), 10, 'the old ones, in both pipelines');
};

scene 'one process that takes events away from itself', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing_held($dir, '', main => 'master_process off;')
        ->start;
    my @sockets = hold($nginx, (['/deep?try=hang&tenant=a']) x 5);

    arrived($nginx, $receiver, 30);
    $nginx->{http} =~ s/trace_events both;//;
    $nginx->configure;
    $nginx->signal('HUP');
    $nginx->wait_for(sub { $nginx->log =~ /reconfiguring/ });
    leave($nginx, 0, @sockets);
    is($nginx->get('/deep?tenant=a'), 200, 'it goes on');
    orderly($receiver, open => 1);
};

scene 'quit: all is sent before, also what was cut off', sub {
    my $dir = shift;
    my $receiver = receiver($dir, delay => 0.05);
    my $nginx = announcing_held($dir, 'timeout 5s;',
        main => 'worker_processes 1; worker_shutdown_timeout 500ms;')->start;
    my @sockets = hold($nginx, (['/deep?try=hang&tenant=a']) x 20);

    arrived($nginx, $receiver, 120);
    my $time = $nginx->quit;
    cmp_ok($time, '<', 5, "it takes $time s");

    my %ends = map { drawn($_) => 1 } my @requests = orderly($receiver);
    is(scalar @requests, 40, 'all requests');
    is(join("\n", keys %ends), deep('error=worker_shutdown'), 'are closed');
};

scene 'quit under load: nothing is lost, and order is kept', sub {
    my $dir = shift;
    my $receiver = receiver($dir, delay => 0.05,
        answer => refuses(2, '503', 'close', '503'));
    my $nginx = spread($dir, 'queue 16m; events_queue 16m; timeout 10s;
        batch_size 100;')->start;
    my $result = spread_clients($nginx, requests => 1500)->wait;

    $nginx->quit;
    delivered($receiver, $result);
    is(scalar orderly($receiver), 1500, 'all requests');
};

scene 'gzip', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing($dir, 'compression gzip;')->start;
    my $result = clients($nginx, requests => 1000)->wait;

    balance($nginx, of => 'events', exported => 2000);
    is(scalar orderly($receiver), 1000, 'all requests');
    is(scalar(grep { $_->{encoding} ne 'gzip' } $receiver->events), 0,
        'all are compressed');
    my ($raw, $bytes) = (0, 0);
    $raw += $_->{raw}, $bytes += $_->{bytes} for $receiver->events;
    cmp_ok($raw, '<', $bytes / 3, "$bytes bytes became $raw");
};

my %paths = (
    '' => '/v1/logs', ':/otlp/v1/traces' => '/otlp/v1/logs',
    '; events_path /x' => '/x', ':/spans; events_path /v1/logs' => '/v1/logs',
);

for my $path (sort keys %paths) {
    scene "the path of \"endpoint unix:/s$path;\"", sub {
        my $dir = shift;
        my $receiver = receiver($dir, logs => $paths{$path});
        my $nginx = announcing($dir, 'header x-token secret;',
            endpoint => "unix:$dir/otlp.sock$path")->start;

        $nginx->get('/r/1;');
        is(scalar arrived($nginx, $receiver, 2), 2, "is $paths{$path}");
        balance($nginx, of => 'events', exported => 2);
    };
}

scene 'over TCP', sub {
    my $dir = shift;
    my $receiver = receiver($dir, socket => undef, log => "$dir/log");
    my $nginx = announcing($dir, '',
        endpoint => "http://127.0.0.1:$receiver->{port}")->start;

    clients($nginx, requests => 500)->wait;
    balance($nginx, of => 'events', exported => 1000);
    is(scalar orderly($receiver), 500, 'all requests');
};

scene 'what is counted is in both formats, where there are events', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = announcing($dir, '',
        http => exporter($dir, 'routing_header x-tenant;', 'user'),
        server => 'trace internal on; trace user on; trace_routing a;
            trace_context internal propagate header=x-op-traceparent;
            location / { trace_events internal; return 204; }
            location = /status { trace internal off; trace user off;
                trace_status format=json; }
            location = /metrics { trace internal off; trace user off;
                trace_status; }')->start;

    $nginx->get('/r/1;') for 1 .. 3;
    my $status = balance($nginx, of => 'events', recorded => 6, exported => 6);
    my (undef, $text) = $nginx->get('/metrics');
    my %counted = $text =~ /^nginx_trace_(events_\S+) (\d+)$/mg;

    is(join(', ', grep { /^events/ } sort keys %$status), 'events_dropped, '
        . 'events_exported, events_queue_bytes, events_queue_events, '
        . 'events_recorded', 'JSON');
    is_deeply([map { s/.*pipeline="(\w+)".*/$1/r } keys %counted],
        [('internal') x keys %counted], 'one pipeline has them');
    is_deeply({ map { $_ => $counted{"events_$_\{pipeline=\"internal\"}"} }
        qw(recorded_total exported_total queue_events queue_bytes) },
        { recorded_total => 6, exported_total => 6, queue_events => 0,
          queue_bytes => 0 }, 'Prometheus');
    is(scalar(grep { /events_dropped_total\{.*reason=/ } keys %counted),
        scalar keys %{$status->{events_dropped}}, 'with all reasons');
    is(join(', ', grep { /^events/ } keys %{status($nginx, 'user')}), '',
        'the other pipeline has none');
    Promtool::check('metrics', $text, 'promtool has nothing to mend');
};

done_testing();

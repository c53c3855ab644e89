# A worker that dies leaves no request without its span: whoever gets its queue
# ends those that were open with worker_exit, each once, with the ids that the
# upstream has got, and a user's to nobody but its tenant.

use strict;
use warnings;

use IO::Select;
use Test::More;

use Held;
use QueueFile;
use Spans;

my @pipelines = qw(internal user);
my @tenants = qw(acme globex initech);

sub tenant_of { $tenants[$_[0] % @tenants] }

# a request that its upstream keeps waiting

sub request {
    my ($n, %more) = @_;
    my %query = (delay => 60, tenant => tenant_of($n), n => $n, %more);
    my $path = delete $query{path} // '/held';

    return ["$path?" . join('&', map { "$_=$query{$_}" } sort keys %query),
        context($n)];
}

# these have been served

sub finish {
    my ($nginx, @numbers) = @_;

    is(scalar(grep { $nginx->get(@{request($_, delay => 0)}) == 200 }
        @numbers), scalar @numbers, 'served');
}

# held requests, all of which have come to the upstream

sub hold_all {
    my ($nginx, @requests) = @_;

    upstream()->requests;
    my @sockets = hold($nginx, @requests);
    upstream()->requests(scalar @requests, 20);

    return @sockets;
}

# the worker dies, and it is waited until its successor is there

sub end_worker {
    my ($nginx, $signal, $pid) = @_;
    my @others = grep { $_ != $pid } $nginx->workers;

    kill $signal, $pid;
    $nginx->gone($pid, 10) // die 'it lives';
    $nginx->wait_for(sub { $nginx->workers > @others });
}

sub died { ($_[0]{attributes}{'error.type'} // '') eq 'worker_exit' }

# One line for each request span of a pipeline that tells which it is and what
# has become of it. None is there twice.

sub lines {
    my ($spans, $pipeline, $n) = @_;

    return [sort map {
        sprintf '%d %s %s %s', number_of($_), $_->{name},
            $_->{headers}{'x-tenant'} // '-', died($_) ? 'died' : 'finished'
    } $spans->requests($pipeline, $n)];
}

sub line {
    my ($pipeline, $end, $n) = @_;

    return sprintf '%d GET / %s %s', $n,
        $pipeline eq 'user' ? tenant_of($n) : '-', $end;
}

# that these have died, each once, and these have finished, and no others

sub check {
    my ($nginx, $spans, $died, $finished, %counts) = @_;

    for my $pipeline (@pipelines) {
        is_deeply(lines($spans, $pipeline, @$died + @$finished),
            [sort((map { line($pipeline, 'died', $_) } @$died),
                  (map { line($pipeline, 'finished', $_) } @$finished))],
            "$pipeline: " . @$died . ' have died, ' . @$finished . ' have not');
    }

    check_ids(grep { $_->{kind} eq 'SERVER' } $spans->all);
    balance($nginx, pipeline => $_, %counts) for @pipelines;
}

sub check_ids {
    my %count;

    for my $span (@_) {
        my $pipeline = exists $span->{headers}{'x-tenant'} ? 'user'
            : 'internal';
        my $n = number_of($span);

        $count{$span->{span_id}}++;
        $count{wrong}++ if $span->{trace_id} ne trace_of($pipeline, $n)
            || $span->{parent_span_id} ne parent_of($pipeline, $n);
    }

    is_deeply([grep { $count{$_} > 1 || $_ eq 'wrong' } keys %count], [],
        'each with an id of its own, in its trace, below its parent');
}

for my $workers (1, 2) {
    scene "kill -9 with 100 requests open, $workers workers", sub {
        my $dir = shift;
        my $spans = Spans->new("$dir/otlp.sock");
        my $nginx = held($dir, 'interval 50ms;',
            main => "worker_processes $workers;")->start;

        finish($nginx, 101 .. 110);
        my $before = time;
        my @sockets = hold_all($nginx, map { request($_) } 1 .. 100);
        my @open = until_open($nginx, 100);
        my ($worker) = $open[0]{worker};
        my @dead = grep { $_->{worker} == $worker } @open;
        my @alive = map { number_of($_) }
            grep { $_->{worker} != $worker } @open;
        my %id = map { number_of($_) => $_->{span_id} } @open;
        my $killed = time;

        is(scalar @open, 100, 'open: ' . @dead . ' and ' . @alive);
        end_worker($nginx, 'KILL', $worker);
        until_open($nginx, scalar @alive);
        is((open_spans($nginx))[1], scalar @alive, 'the others stay open');
        @sockets = ();

        check($nginx, $spans, [map { number_of($_) } @dead],
            [@alive, 101 .. 110]);

        my @died = grep { died($_) } $spans->requests('internal'),
            $spans->requests('user');
        my ($other) = grep { !died($_) } $spans->requests('internal');
        my %whole = (kind => 'SERVER', flags => 0x301, trace_state => '',
            attributes => { 'error.type' => 'worker_exit' }, events => [],
            links => [], status => { code => 'ERROR', message => '' },
            map { $_ => $other->{$_} } qw(resource scope));
        my %wrong;

        for my $span (@died) {
            my ($start, $end) = map { $_ / 1e9 }
                @$span{qw(start_time_unix_nano end_time_unix_nano)};

            $wrong{start}++ if $start < $before - 0.002 || $start > $killed;
            $wrong{end}++ if $end < $killed - 0.002 || $end > time;
            $wrong{id}++ if $span->{trace_id} =~ /^a/
                && $span->{span_id} ne $id{number_of($span)};
        }

        is_deeply(\%wrong, {}, 'start, end and id are right');
        is_deeply({ map { $_ => $died[0]{$_} } keys %whole }, \%whole,
            'the rest of it');
        is_deeply([grep { $_->{kind} ne 'SERVER'
            && number_of($_) == number_of($died[0]) } $spans->all], [],
            'there is nothing below it');

        for my $pipeline (@pipelines) {
            my $says = @dead . " open $pipeline spans of a worker that is gone"
                . ' end with worker_exit';
            ok(scalar(grep { /\[notice\].*: \Q$says\E$/ } split /\n/,
                $nginx->log), "$pipeline: log");
        }
    };
}

scene 'what is in the queue when the worker dies is not made again', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, 'interval 2s;', main => 'worker_processes 1;')
        ->start;
    my @sockets = hold_all($nginx, map { request($_) } 1 .. 20);

    finish($nginx, 101 .. 150);
    is_deeply([$spans->all], [], 'nothing was sent yet');
    end_worker($nginx, 'KILL', $nginx->workers);

    # a request and its attempt
    check($nginx, $spans, [1 .. 20], [101 .. 150], recorded => 120,
        exported => 120);
};

scene 'whose routing is not known', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, 'interval 50ms;', main => 'worker_processes 1;',
        server => 'location /access { auth_request /auth;
                       proxy_pass http://behind; }
                   location = /auth { internal;
                       proxy_pass http://behind/auth?delay=60; }')->start;
    my @sockets = hold_all($nginx,
        request(1, tenant => ''),
        request(2, tenant => 'x' x 128),
        request(3, tenant => 'x' x 129),
        request(4, tenant => 'acme', path => '/access'),
        request(5, tenant => "a%0ab"),
        request(6, tenant => "caf\xe9"));

    until_open($nginx, 6);
    end_worker($nginx, 'KILL', $nginx->workers);

    is_deeply([map { number_of($_) } sort { $a->{trace_id} cmp $b->{trace_id} }
        $spans->requests('internal', 6)], [1 .. 6], 'the operator has all');
    balance($nginx, pipeline => 'user', recorded => 6, exported => 2,
        no_routing => 4);

    my %routing = map { number_of($_) => $_->{headers}{'x-tenant'} }
        $spans->requests('user');
    is_deeply(\%routing, { 2 => 'x' x 128, 5 => 'a%0ab' }, 'users have theirs');
};

# its access checks may decide it, also where no content handler follows

scene 'whose routing is set by auth_request', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");

    open my $file, '>', "$dir/large" or die $!;
    truncate $file, 20_000_000;
    close $file;

    my $nginx = held($dir, 'interval 50ms;', main => 'worker_processes 1;',
        http => "server { listen unix:$dir/auth.sock; trace internal off;
                     trace user off; add_header X-Who alice; return 204; }
                 trace_routing \$who;",
        server => "set \$who default;
                   location = /yes { internal;
                       proxy_pass http://unix:$dir/auth.sock; }
                   location = /slow { internal;
                       proxy_pass http://behind/slow?delay=60; }
                   location /proxied { auth_request /yes;
                       auth_request_set \$who \$upstream_http_x_who;
                       proxy_pass http://behind; }
                   location /files/yes/ { auth_request /yes;
                       auth_request_set \$who \$upstream_http_x_who;
                       alias $dir/; }
                   location /files/slow/ { auth_request /slow;
                       auth_request_set \$who \$upstream_http_x_who;
                       alias $dir/; }");

    $nginx->{http} =~ s/trace_routing \$arg_tenant;//;
    $nginx->start;

    upstream()->requests;
    my @sockets = hold($nginx, request(1, path => '/proxied'),
        request(2, path => '/files/yes/large'),
        request(3, path => '/files/slow/large'));

    # that the third one waits, and a response to the second one
    upstream()->requests(2);
    IO::Select->new($sockets[1])->can_read(10);
    end_worker($nginx, 'KILL', $nginx->workers);

    balance($nginx, pipeline => 'user', recorded => 3, exported => 2,
        no_routing => 1);
    is_deeply([sort map { number_of($_) . ' ' . $_->{headers}{'x-tenant'} }
        $spans->requests('user')], ['1 alice', '2 alice'],
        'they go where they belong');
};

scene 'the name is that of the beginning', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, 'interval 50ms;', main => 'worker_processes 1;',
        http => 'trace_span_name both later;', server =>
        'location /rewritten { rewrite ^ /hidden?delay=60 last; }
         location /hidden { internal; proxy_pass http://behind; }
         location /long' . 'x' x 100 . " { proxy_pass http://behind; }
         location /z\xff\xc3" . "\xc3\xa9" x 40 . ' {
             proxy_pass http://behind; }')->start;
    my @sockets = hold_all($nginx, request(1),
        request(2, path => '/rewritten'),
        request(3, path => '/long' . 'x' x 100),
        request(4, path => '/z%ff%c3' . '%c3%a9' x 40));

    end_worker($nginx, 'KILL', $nginx->workers);

    # what is no UTF-8 is replaced, and no character is cut
    my $long = substr 'GET /long' . 'x' x 100, 0, 64;
    my $cut = "GET /z\x{fffd}\x{fffd}" . "\xe9" x 28;
    my %expected = (internal => ['GET /', 'GET /hidden', $long, $cut],
        user => ['GET /', 'GET', $long, $cut]);

    for my $pipeline (@pipelines) {
        my %name = map { number_of($_) => $_->{name} }
            $spans->requests($pipeline, 4);
        is_deeply([map { $name{$_} } 1 .. 4], $expected{$pipeline}, $pipeline);
    }
};

scene 'what is not sampled leaves nothing', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, 'interval 50ms;', main => 'worker_processes 1;',
        server => 'location /keep { trace user off; trace internal ratio=0;
                       trace_keep $arg_keep; proxy_pass http://behind; }
                   location /parent { trace internal parent; trace user off;
                       proxy_pass http://behind; }
                   location /off { trace internal off; trace user off;
                       proxy_pass http://behind; }')->start;
    my @sockets = hold_all($nginx, request(1, path => '/keep', keep => 1),
        ['/parent?delay=60', map { s/01\z/00/r } context(2)],
        request(3, path => '/off'), request(4));

    end_worker($nginx, 'KILL', $nginx->workers);
    check($nginx, $spans, [4], [], recorded => 1, exported => 1);
};

# after a reload there are queues that nobody has

for my $signal ('KILL', 'TERM') {
    for my $reloads (0, 1) {
        scene "SIG$signal of a worker after $reloads reloads", sub {
            my $dir = shift;
            my $spans = Spans->new("$dir/otlp.sock");
            my $nginx = held($dir, 'interval 50ms;',
                main => 'worker_processes 1;')->start;

            $nginx->reload for 1 .. $reloads;
            $nginx->wait_for(sub { $nginx->workers == 1 });
            my @sockets = hold_all($nginx, map { request($_) } 1 .. 20);
            end_worker($nginx, $signal, $nginx->workers);
            check($nginx, $spans, [1 .. 20], [], recorded => 20,
                exported => 20);
        };
    }
}

scene 'a receiver that is away, and successors that die, too', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, 'interval 10ms;', main => 'worker_processes 1;')
        ->start;
    my @sockets = hold_all($nginx, map { request($_) } 1 .. 100);

    $spans->stop;

    # some of them at once, in the middle of their start
    for (1 .. 20) {
        my ($worker) = $nginx->workers;
        kill 'KILL', $worker;
        $nginx->wait_for(sub { my ($next) = $nginx->workers;
            $next && $next != $worker });
        sleep rand 0.02;
    }

    $nginx->wait_for(sub { eval { status($nginx)->{queue_spans} } });
    is(eval { status($nginx)->{queue_spans} }, 100, 'they wait');
    push @sockets, hold_all($nginx, map { request($_) } 101 .. 110);
    end_worker($nginx, 'KILL', $nginx->workers);
    is_deeply([$spans->all], [], 'nothing has come');

    $spans->start;
    check($nginx, $spans, [1 .. 110], [], recorded => 110, exported => 110);
};

scene 'a worker for which nobody starts', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, 'interval 50ms; timeout 60s;',
        main => 'worker_processes 1;')->start;
    my ($worker) = $nginx->workers;
    my @sockets = hold_all($nginx, map { request($_) } 1 .. 20);

    $nginx->reload;
    $nginx->wait_for(sub { $nginx->log =~ /$worker#.*gracefully shutting/ });
    push @sockets, hold_all($nginx, map { request($_) } 21 .. 30);
    kill 'KILL', $worker;

    is_deeply(lines($spans, 'internal', 20),
        [sort map { line('internal', 'died', $_) } 1 .. 20], 'its own');
    is((open_spans($nginx))[1], 10, 'those of the other one are still open');
    undef @sockets;
    check($nginx, $spans, [1 .. 20], [21 .. 30]);
};

# with queues in files

sub with_files {
    my ($dir, %conf) = @_;

    return held($dir, "interval 50ms; queue 1m file=$dir/PIPELINE;", %conf);
}

for my $workers ([1, 1], [2, 1], [1, 2]) {
    my ($before, $after) = @$workers;

    scene "kill -9 of all of nginx, and a start: $before workers, $after", sub
    {
        my $dir = shift;
        my $spans = Spans->new("$dir/otlp.sock");
        my $nginx = with_files($dir, main => "worker_processes $before;")
            ->start;
        my @sockets = hold_all($nginx, map { request($_) } 1 .. 50);

        finish($nginx, 101 .. 110);
        $nginx->crash;
        sleep 0.3;
        my $start = time;
        $nginx->{main} = "worker_processes $after;";
        $nginx->start;
        check($nginx, $spans, [1 .. 50], [101 .. 110]);
        is(scalar(grep { died($_) && $_->{end_time_unix_nano} / 1e9 < $start }
            $spans->all), 0, 'they end with the start');
        is((open_spans($nginx))[1], 0, 'nothing is open');

        ok(defined $nginx->quit, 'quit');
        $nginx->start;
        balance($nginx, pipeline => $_) for @pipelines;
        is(scalar(my @all = $spans->all), 140, 'there is nothing more');
    };
}

# dead between two writes to shared memory

my %moments = (
    'a record is there, its place is not free yet' => {
        finished => [101], died => [1 .. 5], as => sub {
            my ($file, $place) = @_;

            # the place is as it was left
            my $times = number($file, $place->{101}) & 0xffffffff;
            patch($file, $place->{101}, pack 'L', $times - 1);
        } },
    'the record was about to come' => {
        finished => [101], died => [1 .. 5], as => sub {
            my ($file, $place) = @_;

            patch($file, $place->{3} + 8, pack 'Q', head($file, 0) + 1);
        } },
    'the place is being filled' => {
        finished => [101], died => [1, 2, 4, 5], as => sub {
            my ($file, $place) = @_;

            patch($file, $place->{3}, pack 'L', 0);
        } },
);

for my $moment (sort keys %moments) {
    scene "dead when $moment", sub {
        my $dir = shift;
        my $spans = Spans->new("$dir/otlp.sock");
        my $nginx = with_files($dir, main => 'worker_processes 1;')->start;
        my @sockets = hold_all($nginx, map { request($_) } 1 .. 5);

        finish($nginx, 101);
        $nginx->crash;

        for my $pipeline (@pipelines) {
            my $file = "$dir/$pipeline";
            my $places = places($file);
            my %place = map { $_ => $places->{trace_of($pipeline, $_)} }
                1 .. 5, 101;

            is(scalar(grep { defined } values %place), 6, 'places are found');
            $moments{$moment}{as}->($file, \%place);
        }

        $nginx->start;
        check($nginx, $spans, @{$moments{$moment}}{qw(died finished)});
    };
}

# whatever it makes of it, it stays what it counts, and goes on

scene 'a table of random bytes', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = with_files($dir, main => 'worker_processes 1;')->start;

    finish($nginx, 101);
    $nginx->crash;

    for my $pipeline (@pipelines) {
        my $file = "$dir/$pipeline";
        my @places = sort { $a <=> $b } values %{places($file)};

        patch($file, $places[0],
            join '', map { chr rand 256 } $places[0] .. $places[-1]);
        patch($file, entry($file, 0) + 32, pack 'Q', ~0);
    }

    $nginx->start;
    balance($nginx, pipeline => $_, no_routing =>
        status($nginx, $_)->{spans_dropped}{no_routing}) for @pipelines;
    is((open_spans($nginx))[1], 0, 'nothing is open');

    my @sockets = hold_all($nginx, map { request($_) } 1 .. 5);
    is_deeply([sort map { number_of($_) } until_open($nginx, 5)], [1 .. 5],
        'it lists what there is');
    end_worker($nginx, 'KILL', $nginx->workers);

    for my $pipeline (@pipelines) {
        my %ours = map { trace_of($pipeline, $_) => 1 } 1 .. 5;
        my $died = 0;

        $nginx->wait_for(sub {
            $died = grep { $ours{$_->{trace_id}} && died($_) } $spans->all;
        });
        is($died, 5, "$pipeline: it ends what there is");
    }
};

for my $workers ([1, 1], [2, 1]) {
    my ($before, $after) = @$workers;

    scene "nginx -s stop, and a start: $before workers, $after", sub {
        my $dir = shift;
        my $spans = Spans->new("$dir/otlp.sock");
        my $nginx = with_files($dir, main => "worker_processes $before;")
            ->start;
        my @sockets = hold_all($nginx, map { request($_) } 1 .. 50);

        kill 'TERM', $nginx->{pid};
        ok(defined $nginx->gone($nginx->{pid}, 5), 'it is gone');
        $nginx->{main} = "worker_processes $after;";
        $nginx->start;
        check($nginx, $spans, [1 .. 50], [], recorded => 50, exported => 50);
    };
}

# Under load, and with no receiver, which might get a span for the second time
# from one who died before it had its answer. What the upstream has seen has
# been decided, and so has one end.

scene '10 kills while requests finish all the time', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, 'interval 20ms; queue 16m;')->start;

    upstream()->requests;
    $spans->stop;

    my $load = clients($nginx, rate => 400, headers => \&context,
        path => '/r/%d;?status=204&delay=0.02&tenant=acme');
    my $kills = 0;

    for (1 .. 10) {
        sleep 0.1 + rand 0.3;
        $nginx->wait_for(sub { $nginx->workers == 2 });

        my @workers = $nginx->workers;
        $kills += kill 'KILL', $workers[rand @workers];
    }

    sleep 0.2;
    my $result = $load->stop;
    is($kills, 10, 'kills');

    $spans->start;
    my %seen = map { $_->{line} =~ m{/r/(\d+);} ? ($1 => 1) : () }
        upstream()->requests;
    balance($nginx, pipeline => $_) for @pipelines;

    for my $pipeline (@pipelines) {
        my (%ends, %died);

        for ($spans->requests($pipeline)) {
            $ends{number_of($_)}++;
            $died{number_of($_)}++ if died($_);
        }

        note scalar(keys %ends) . ' requests, ' . keys(%died) . ' died';
        cmp_ok(scalar keys %died, '>', 0, "$pipeline: some have died");
        is_deeply([grep { $ends{$_} > 1 } keys %ends], [], 'none ends twice');
        is_deeply([grep { !$ends{$_} } keys %seen], [],
            'none that the upstream has seen has no end');
        is_deeply([grep { $died{$_} } @{$result->{finished}}], [],
            'none that has finished has died');
    }

    check_ids(grep { $_->{kind} eq 'SERVER' } $spans->all);
};

scene 'a reload and a quit end nothing before its time', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, 'interval 50ms;')->start;
    my @sockets = hold_all($nginx, map { request($_, delay => 1) } 1 .. 20);

    $nginx->reload;
    $nginx->wait_for(sub { $nginx->workers == 2 });
    push @sockets, hold_all($nginx, map { request($_, delay => 1) } 21 .. 40);
    ok(defined $nginx->quit, 'quit');
    $spans->stop;

    for my $pipeline (@pipelines) {
        is_deeply(lines($spans, $pipeline),
            [sort map { line($pipeline, 'finished', $_) } 1 .. 40],
            "$pipeline: all have finished");
    }

    ok($nginx->log !~ /worker_exit/, 'log');
};

scene 'worker_shutdown_timeout tells of itself', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, 'interval 50ms;', main => 'worker_processes 1;
        worker_shutdown_timeout 300ms;')->start;
    my @sockets = hold_all($nginx, map { request($_) } 1 .. 5);

    $nginx->reload;
    check($nginx, $spans, [], [1 .. 5]);
    is(($spans->requests('internal'))[0]{attributes}{'error.type'},
        'worker_shutdown', 'why');
};

done_testing();

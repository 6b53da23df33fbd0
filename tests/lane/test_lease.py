"""A lease: who may publish a stream, and until when."""

import pytest

from daemon.errors import ConflictError, LeaseError
from daemon.lane.lease import LONGEST, Lease, boot_time
from stages.errors import ConfigError


def test_a_stream_without_a_fence_needs_no_lease_and_gets_none():
    lease = Lease()
    lease.check()
    with pytest.raises(ConflictError, match="started without a fence and needs no lease"):
        lease.renew(1, boot_time() + 1)
    assert lease.fence is None


def test_a_lease_holds_from_when_it_is_given_until_its_end():
    lease = Lease(4)
    with pytest.raises(LeaseError):
        lease.check()
    lease.renew(4, boot_time() + LONGEST / 2)
    lease.check()
    lease.renew(4, boot_time())
    with pytest.raises(LeaseError):
        lease.check()


def test_the_fence_only_rises():
    lease = Lease(4)
    lease.renew(6, boot_time() + LONGEST / 2)
    assert lease.fence == 6
    with pytest.raises(ConflictError, match="has fence 6, so a lease with fence 5 is out of date"):
        lease.renew(5, boot_time() + LONGEST / 2)
    assert lease.holds


def test_a_time_of_another_clock_is_refused_and_the_lease_stays_as_it_was():
    lease = Lease(4)
    with pytest.raises(ConfigError, match="more than 60 s ahead: it is in seconds of this machine's CLOCK_BOOTTIME"):
        lease.renew(5, boot_time() + LONGEST + 5)
    assert (lease.fence, lease.holds) == (4, False)

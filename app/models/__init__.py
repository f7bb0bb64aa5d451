"""The records: columns, constraints, nothing that decides."""

from app.models.base import Base, TenantOwned
from app.models.delivery import Attempt, Delivery, DeliveryContent
from app.models.erasure import Erasure
from app.models.event import Event, EventDedupe
from app.models.notification import InAppNotification
from app.models.preference import Preference
from app.models.recipient import Recipient
from app.models.rule import Rule
from app.models.system import Breaker, ProviderRate, ServiceState
from app.models.template import Template
from app.models.tenant import ApiKey, IdempotencyKey, SigningKey, Tenant
from app.models.topic import Topic, TopicRecipient
from app.models.webhook import WebhookAttempt, WebhookConfiguration

__all__ = [
    "ApiKey",
    "Attempt",
    "Base",
    "Breaker",
    "Delivery",
    "DeliveryContent",
    "Erasure",
    "Event",
    "EventDedupe",
    "IdempotencyKey",
    "InAppNotification",
    "Preference",
    "ProviderRate",
    "Recipient",
    "Rule",
    "ServiceState",
    "SigningKey",
    "Template",
    "Tenant",
    "TenantOwned",
    "Topic",
    "TopicRecipient",
    "WebhookAttempt",
    "WebhookConfiguration",
]

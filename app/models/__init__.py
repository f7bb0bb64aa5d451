"""The records: columns, constraints, nothing that decides."""

from app.models.base import Base, TenantOwned
from app.models.delivery import Attempt, Delivery, DeliveryContent
from app.models.event import Event
from app.models.notification import InAppNotification
from app.models.preference import Preference
from app.models.recipient import Recipient
from app.models.rule import Rule
from app.models.template import Template
from app.models.tenant import ApiKey, IdempotencyKey, SigningKey, Tenant
from app.models.webhook import WebhookAttempt, WebhookConfiguration

__all__ = [
    "ApiKey",
    "Attempt",
    "Base",
    "Delivery",
    "DeliveryContent",
    "Event",
    "IdempotencyKey",
    "InAppNotification",
    "Preference",
    "Recipient",
    "Rule",
    "SigningKey",
    "Template",
    "Tenant",
    "TenantOwned",
    "WebhookAttempt",
    "WebhookConfiguration",
]
